//! Reads and writes artifacts below `/work`, like modules of the original plugin. This guest is not
//! hostile.

use std::fs;

fn main() {
    print!(
        "{}",
        fs::read_to_string("/work/artifacts-in/deep/in/file").unwrap()
    );
    fs::write(
        "/work/artifacts-out/out/declared",
        "left under artifacts-out",
    )
    .unwrap();
    fs::create_dir_all("/work/artifacts-out/tmp/extra/deep").unwrap();
    fs::write("/work/artifacts-out/tmp/extra/deep/file", "in a directory").unwrap();
    #[expect(deprecated, reason = "the only portable way to make a link in WASI")]
    fs::soft_link("deep/file", "/work/artifacts-out/tmp/extra/link").unwrap();
    let result = r#"{"phase":"Succeeded","message":"","outputs":{"parameters":[],"artifacts":[{"name":"extra","path":"/tmp/extra"}]}}"#;
    fs::write("/work/result.json", result).unwrap();
}
