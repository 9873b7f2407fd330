//! Packs the files that the HTTP door carries, so that no shard does it while it serves.

#[cfg(feature = "http")]
fn main() -> std::io::Result<()> {
    use std::{env, fs, path::PathBuf};

    const PAGE: &str = "src/http/page";
    println!("cargo::rerun-if-changed={PAGE}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(std::io::ErrorKind::NotFound)?);
    for folder in ["", "hls", "mpegts"] {
        fs::create_dir_all(out.join(folder))?;
        for entry in fs::read_dir(PathBuf::from(PAGE).join(folder))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let mut name = entry.file_name();
                name.push(".gz");
                fs::write(out.join(folder).join(name), pack(&fs::read(entry.path())?)?)?;
            }
        }
    }
    Ok(())
}

/// `bytes` in gzip's format, without a name or a time: the same for the same bytes.
#[cfg(feature = "http")]
fn pack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write;

    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(bytes)?;
    packer.finish()
}

#[cfg(not(feature = "http"))]
fn main() {}
