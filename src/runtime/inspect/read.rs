//! Reads the sections of a binary.

use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::{EntityType, Types, TypesRef};
use wasmparser::{
    BinaryReaderError, ComponentExternalKind, Parser, Payload, ValidPayload, Validator,
};

use super::not_wasm::{NotWasm, is_component};
use super::{Export, ExportKind, Import, ImportKind, Inspection, Signature};
use crate::runtime::features;

/// Reads the imports and exports of a core module or a component. The code of functions is not
/// validated.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, NotWasm> {
    let mut sections = Sections::default();
    sections.inspection.component = is_component(bytes)?;
    // `validate` names the proposals that the engine does not have.
    let mut validator = Validator::new_with_features(features::known());
    let mut types = None;
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| NotWasm::Damaged(error.to_string()))?;
        let invalid = |error: BinaryReaderError| NotWasm::Invalid(error.to_string());
        if let ValidPayload::End(end) = validator.payload(&payload).map_err(invalid)? {
            types = Some(end);
        }
        match payload {
            // Modules and components inside a component have imports and exports of their own.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) if depth > 0 => depth -= 1,
            payload if depth == 0 => sections.read(payload).map_err(invalid)?,
            _ => {}
        }
    }
    Ok(sections.with_types(types.as_ref()))
}

/// The sections of a binary, whose types are only known at its end.
#[derive(Default)]
struct Sections<'a> {
    inspection: Inspection,
    core_imports: Vec<wasmparser::Import<'a>>,
    core_exports: Vec<wasmparser::Export<'a>>,
    component_imports: Vec<&'a str>,
}

impl<'a> Sections<'a> {
    fn read(&mut self, payload: Payload<'a>) -> Result<(), BinaryReaderError> {
        let inspection = &mut self.inspection;
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    self.core_imports.push(import?);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    self.core_exports.push(export?);
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    inspection.has_shared_memory |= memory?.shared;
                }
            }
            Payload::StartSection { .. } => inspection.has_start_function = true,
            Payload::CustomSection(section) => {
                inspection.custom_sections.push(section.name().to_owned());
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    self.component_imports.push(import?.name.name);
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let kind = match export.kind {
                        ComponentExternalKind::Func => ExportKind::ComponentFunction,
                        _ => ExportKind::Other,
                    };
                    let name = export.name.name.to_owned();
                    inspection.exports.push(Export { name, kind });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn with_types(mut self, types: Option<&Types>) -> Inspection {
        let Some(types) = types.map(Types::as_ref) else {
            return self.inspection;
        };
        let core_imports = self.core_imports.iter().map(|import| Import {
            module: import.module.to_owned(),
            name: import.name.to_owned(),
            kind: core_import(import, types),
        });
        let component_imports = self.component_imports.iter().filter_map(|name| {
            Some(Import {
                module: String::new(),
                name: (*name).to_owned(),
                kind: component_import(name, types)?,
            })
        });
        self.inspection.imports = core_imports.chain(component_imports).collect();
        let component_items = self.component_imports.iter();
        let component_items = component_items.map(|name| imported_items(name, types));
        self.inspection.imported_items = self.core_imports.len() + component_items.sum::<usize>();
        let core_exports = self.core_exports.iter().map(|export| Export {
            name: export.name.to_owned(),
            kind: core_export(export, types),
        });
        self.inspection.exports.extend(core_exports);
        self.inspection
    }
}

fn core_import(import: &wasmparser::Import<'_>, types: TypesRef<'_>) -> ImportKind {
    match types.entity_type_from_import(import) {
        Some(EntityType::Func(_) | EntityType::FuncExact(_)) => ImportKind::Function,
        Some(EntityType::Memory(memory)) if memory.shared => ImportKind::SharedMemory,
        Some(EntityType::Memory(_)) => ImportKind::Other("memory"),
        Some(EntityType::Table(_)) => ImportKind::Other("table"),
        Some(EntityType::Tag(_)) => ImportKind::Other("tag"),
        Some(EntityType::Global(_)) | None => ImportKind::Other("global"),
    }
}

/// The kind of a component's import. `None` for a type, which needs nothing from the host.
fn component_import(name: &str, types: TypesRef<'_>) -> Option<ImportKind> {
    Some(match types.component_item_for_import(name)?.ty {
        ComponentEntityType::Type { .. } => return None,
        ComponentEntityType::Func(_) => ImportKind::Function,
        ComponentEntityType::Instance(id) => {
            let exports = types[id].exports.iter();
            let functions =
                exports.filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)));
            ImportKind::Interface(functions.map(|(name, _)| name.clone()).collect())
        }
        ComponentEntityType::Module(_) => ImportKind::Other("module"),
        ComponentEntityType::Component(_) => ImportKind::Other("component"),
        ComponentEntityType::Value(_) => ImportKind::Other("value"),
    })
}

/// Number of functions and types that a component's import consists of.
fn imported_items(name: &str, types: TypesRef<'_>) -> usize {
    match types.component_item_for_import(name).map(|item| item.ty) {
        Some(ComponentEntityType::Instance(id)) => types[id].exports.len(),
        _ => 1,
    }
}

fn core_export(export: &wasmparser::Export<'_>, types: TypesRef<'_>) -> ExportKind {
    match types.entity_type_from_export(export) {
        Some(EntityType::Func(id) | EntityType::FuncExact(id)) => {
            let function = types[id].unwrap_func();
            ExportKind::CoreFunction(Signature {
                params: function.params().to_vec(),
                results: function.results().to_vec(),
            })
        }
        _ => ExportKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_module_is_read_and_a_truncated_one_is_refused() {
        let empty = inspect(b"\0asm\x01\0\0\0").unwrap();
        assert_eq!(empty, Inspection::default());
        assert!(matches!(
            inspect(b"\0asm\x01\0\0\0\x01\x05"),
            Err(NotWasm::Damaged(_))
        ));
    }

    #[test]
    fn an_invalid_section_is_not_called_damage() {
        // An export of the function 7, which does not exist.
        let invalid = b"\0asm\x01\0\0\0\x07\x05\x01\x01f\0\x07";
        assert!(matches!(inspect(invalid), Err(NotWasm::Invalid(_))));
    }
}
