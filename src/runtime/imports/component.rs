//! Functions and resources in place of unknown imports of a component.
//!
//! wasmtime has `define_unknown_imports_as_traps` for this. That function is not used, because it
//! looks only for the exact version. The host offers `wasi:cli/environment@0.2.12`, and a component
//! that imports the compatible version 0.2.0 would get traps.

use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Component, InstancePre, Linker, LinkerInstance, ResourceType};

use crate::runtime::guest_state::GuestState;
use crate::runtime::load_error::{LoadError, clipped};
use crate::runtime::origin::{Origin, WASI_0_2, WASI_0_3};
use crate::runtime::unoffered::UnofferedCall;

/// The type of all resources that the host does not offer. The host never makes one.
struct UnofferedResource;

/// A linker for one component. Defines the imports that the host does not offer.
pub(super) struct ComponentLinker {
    linker: Linker<GuestState>,
    /// Resources that an earlier import defined. Later interfaces only refer to them.
    known_resources: Vec<ResourceType>,
}

/// Links a component. Unknown functions trap when they are called.
pub(in crate::runtime) fn link_component(
    host: &Linker<GuestState>,
    component: &Component,
) -> Result<InstancePre<GuestState>, LoadError> {
    if let Ok(linked) = host.instantiate_pre(component) {
        return Ok(linked);
    }
    let mut linker = ComponentLinker::new(host);
    linker
        .offer_imports(component)
        .and_then(|()| linker.linker.instantiate_pre(component))
        .map_err(|error| import_error(component, &error))
}

impl ComponentLinker {
    /// A linker with everything that the host offers.
    pub(super) fn new(host: &Linker<GuestState>) -> Self {
        Self {
            linker: host.clone(),
            known_resources: Vec::new(),
        }
    }

    /// The items that the component gets when it imports the interface `name`.
    pub(super) fn interface(
        &mut self,
        name: &str,
    ) -> wasmtime::Result<LinkerInstance<'_, GuestState>> {
        self.linker.instance(&name_on_host(name))
    }

    /// The items that the component imports without an interface.
    pub(super) fn root(&mut self) -> LinkerInstance<'_, GuestState> {
        self.linker.root()
    }

    fn offer_imports(&mut self, component: &Component) -> wasmtime::Result<()> {
        let engine = component.engine();
        for (name, import) in component.component_type().imports(engine) {
            match import.ty {
                ComponentItem::ComponentFunc(ty) => {
                    let call = UnofferedCall::of_function(name);
                    offer_function(&mut self.root(), name, ty.async_(), call);
                }
                ComponentItem::ComponentInstance(ty) => self.offer_interface(name, &ty)?,
                ComponentItem::Resource(ty) if self.is_new(ty) => {
                    offer_resource(&mut self.root(), name);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn offer_interface(&mut self, name: &str, ty: &ComponentInstance) -> wasmtime::Result<()> {
        let engine = self.linker.engine().clone();
        for (item, export) in ty.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(ty) => {
                    let call = UnofferedCall::of_interface(name, item);
                    offer_function(&mut self.interface(name)?, item, ty.async_(), call);
                }
                ComponentItem::Resource(ty) if self.is_new(ty) => {
                    offer_resource(&mut self.interface(name)?, item);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether this is the first import of a resource. Remembers the resource.
    fn is_new(&mut self, resource: ResourceType) -> bool {
        let is_new = !self.known_resources.contains(&resource);
        if is_new {
            self.known_resources.push(resource);
        }
        is_new
    }
}

/// Defines a function that traps, unless the host offers the function. Returns whether the guest
/// traps when it calls the function.
pub(super) fn offer_function(
    interface: &mut LinkerInstance<'_, GuestState>,
    name: &str,
    is_async: bool,
    call: UnofferedCall,
) -> bool {
    // The linker refuses a name that is defined, and so keeps what the host offers.
    let defined = if is_async {
        interface.func_new_concurrent(name, move |_, _, _, _| {
            let error = call.clone().into();
            Box::pin(async { Err(error) })
        })
    } else {
        interface.func_new(name, move |_, _, _, _| Err(call.clone().into()))
    };
    defined.is_ok()
}

/// Defines a resource, unless the host offers it.
fn offer_resource(interface: &mut LinkerInstance<'_, GuestState>, name: &str) {
    let ty = ResourceType::host::<UnofferedResource>();
    // The linker refuses a name that is defined, and so keeps what the host offers.
    let _ = interface.resource(name, ty, |_, _| Ok(()));
}

/// The name under which the host offers an interface: compatible versions of WASI have one name.
fn name_on_host(name: &str) -> String {
    if let Some((interface, version)) = name.split_once('@')
        && interface.starts_with("wasi:")
        && !version.contains('-')
    {
        for release in [WASI_0_2, WASI_0_3] {
            let (track, _) = release.rsplit_once('.').unwrap_or((release, ""));
            if version
                .strip_prefix(track)
                .is_some_and(|rest| rest.starts_with('.'))
            {
                return format!("{interface}@{release}");
            }
        }
    }
    name.to_owned()
}

/// The error for a component that still cannot be linked: an import has other types than those of
/// the host. The error of wasmtime has no field for the name of the import, and the wording of its
/// message depends on the version. So the message is searched for the name of each import.
fn import_error(component: &Component, error: &wasmtime::Error) -> LoadError {
    let message = format!("{error:#}");
    let imports = component.component_type();
    let refused = imports
        .imports(component.engine())
        .map(|(name, _)| name)
        .find(|name| message.contains(&format!("`{name}`")));
    match refused {
        Some(name) => LoadError::Import {
            import: format!("`{}` with other types", clipped(name)),
            hint: Origin::of_interface(name).advice(),
        },
        None => LoadError::Engine(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::engine::Engines;

    #[test]
    fn compatible_versions_of_wasi_have_one_name() {
        let cases = [
            ("wasi:cli/environment@0.2.0", "wasi:cli/environment@0.2.12"),
            ("wasi:cli/environment@0.2.99", "wasi:cli/environment@0.2.12"),
            ("wasi:cli/stdin@0.3.7", "wasi:cli/stdin@0.3.0"),
            ("wasi:cli/stdin@0.3.0-rc-1", "wasi:cli/stdin@0.3.0-rc-1"),
            ("wasi:cli/stdin@0.20.0", "wasi:cli/stdin@0.20.0"),
            ("acme:a/b@0.2.0", "acme:a/b@0.2.0"),
            ("wasi:cli/stdin", "wasi:cli/stdin"),
        ];
        for (name, expected) in cases {
            assert_eq!(name_on_host(name), expected);
        }
    }

    /// Fails after an update of wasmtime-wasi: then change the releases.
    #[test]
    fn the_releases_are_those_that_the_host_offers() {
        let engines = Engines::new(1).unwrap();
        let mut linker = ComponentLinker::new(&engines.on_demand.component);
        for version in ["0.2.0", "0.3.0"] {
            let name = format!("wasi:cli/environment@{version}");
            let mut interface = linker.interface(&name).unwrap();
            let call = UnofferedCall::of_interface(&name, "get-environment");
            assert!(
                !offer_function(&mut interface, "get-environment", false, call),
                "{name} is offered under another version"
            );
        }
    }
}
