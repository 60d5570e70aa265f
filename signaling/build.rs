//! Makes the table of pages: every file below `web/dist`, to be part of the binary.
//!
//! Without built pages the table is empty and the crate builds all the same.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    let dist = manifest.join("../web/dist");
    // Cargo takes a missing path for changed and would build this crate anew each time.
    if !dist.exists() {
        let _ = fs::create_dir_all(&dist);
    }
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut files = Vec::new();
    if dist.is_dir() {
        collect(&dist, "", &mut files)?;
    }
    files.sort();
    let mut table = String::from("pub(super) static EMBEDDED: &[(&str, &[u8])] = &[\n");
    for (name, path) in files {
        let path = path.display().to_string();
        let _ = writeln!(table, "    ({name:?}, include_bytes!({path:?})),");
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_default());
    fs::write(out.join("embedded.rs"), table)
}

/// Every file below a folder, with its path as a URL has it; source maps stay outside.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else if path.extension().is_none_or(|extension| extension != "map") {
            files.push((name, path.canonicalize()?));
        }
    }
    Ok(())
}
