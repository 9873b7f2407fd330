//! `shardcast cert`: a certificate that this machine signs itself, and its key.
//!
//! Enough for a network of one's own and for trying things out. Peers trust it when they are given the file, or are told not to
//! ask; for everybody else a certificate comes from an authority.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::ServerName;

use super::{EXIT_DONE, EXIT_FAILED, EXIT_USAGE, say};
use crate::cli::CertArgs;

/// The names of the files, in the directory that was asked for.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
/// Who may read them. The key is its owner's alone.
const CERTIFICATE_MODE: u32 = 0o644;
const KEY_MODE: u32 = 0o600;
/// What the certificate is for when nothing is said.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Bytes of a certificate's common name (RFC 5280, appendix A.1).
const COMMON_NAME_BYTES_MAX: usize = 64;
const DAY: Duration = Duration::from_secs(86_400);
/// How long it holds. Apple's programs take none that holds longer than 825 days, others draw the line at 398.
const DAYS_VALID: u32 = 397;

/// Writes both files, and says what to do with them.
pub fn run(args: &CertArgs) -> ExitCode {
    let hosts = if args.hosts.is_empty() { LOOPBACK.map(str::to_owned).to_vec() } else { args.hosts.clone() };
    let made = match hosts.iter().find(|host| !is_name(host)) {
        Some(host) => Err(format!("{host:?} is no name of a host, and no address")),
        None => make(&hosts, SystemTime::now()).map_err(|error| error.to_string()),
    };
    let pair = match made {
        Ok(pair) => pair,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if let Err(error) = write(&pair, &args.out, args.force) {
        eprintln!("{error}");
        return ExitCode::from(EXIT_FAILED);
    }
    // A config is read from wherever the server is started.
    let out = args.out.canonicalize().unwrap_or_else(|_| args.out.clone());
    say(format_args!(
        "a certificate for {}, good for {DAYS_VALID} days; in the config:\n\n[tls]\ncertificate = {:?}\nkey = {:?}\n",
        hosts.join(", "),
        out.join(CERTIFICATE),
        out.join(KEY)
    ));
    ExitCode::from(EXIT_DONE)
}

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Makes a certificate for `hosts`, names and addresses, that holds from the day before `now`.
///
/// # Errors
/// A host cannot stand in a certificate, or the system has no randomness.
pub fn make(hosts: &[String], now: SystemTime) -> Result<Pair, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    // Nobody goes by it any more; it is what people are shown.
    let name = hosts.iter().find(|host| host.len() <= COMMON_NAME_BYTES_MAX);
    params.distinguished_name.push(DnType::CommonName, name.map_or("shardcast", String::as_str));
    // Clocks differ. A certificate of this minute would not hold yet for a peer that is behind.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAYS_VALID * DAY).into();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // ECDSA on P-256: every peer has it, and a handshake takes a tenth of what it takes with RSA.
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Whether a certificate can be for it: an address, or a name whose first part may be `*`.
fn is_name(host: &str) -> bool {
    ServerName::try_from(host.strip_prefix("*.").unwrap_or(host)).is_ok()
}

/// Writes both files, whole or not at all.
fn write(pair: &Pair, out: &Path, force: bool) -> io::Result<()> {
    let about = |path: &Path, error: io::Error| {
        let hint = if error.kind() == io::ErrorKind::AlreadyExists { " (--force replaces it)" } else { "" };
        io::Error::new(error.kind(), format!("{}: {error}{hint}", path.display()))
    };
    fs::create_dir_all(out).map_err(|error| about(out, error))?;
    let files = [(KEY, &pair.key, KEY_MODE), (CERTIFICATE, &pair.certificate, CERTIFICATE_MODE)];
    for (name, ..) in files {
        let path = out.join(name);
        // A link that leads nowhere is there, too.
        if !force && path.symlink_metadata().is_ok() {
            return Err(about(&path, io::ErrorKind::AlreadyExists.into()));
        }
    }
    for (name, text, mode) in files {
        let path = out.join(name);
        put(&path, text, mode, force).map_err(|error| about(&path, error))?;
    }
    Ok(())
}

/// Writes a file beside its place and moves it there, so that a server that reads it meanwhile sees the old one or the new.
fn put(path: &Path, text: &str, mode: u32, force: bool) -> io::Result<()> {
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&draft)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // A hard link is refused where a file is there, and a rename is not.
    let placed =
        written.and_then(|()| if force { fs::rename(&draft, path) } else { fs::hard_link(&draft, path) });
    if !force || placed.is_err() {
        // It has a second name now, or no use.
        let _ = fs::remove_file(&draft);
    }
    placed
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, path::PathBuf};

    use super::*;
    use crate::tls::Certificate;

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("shardcast-cert-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn args(out: &Path, force: bool) -> CertArgs {
        CertArgs { hosts: vec!["live.example.org".into(), "192.0.2.7".into()], out: out.to_owned(), force }
    }

    #[test]
    fn what_is_written_can_be_served_with_and_the_key_is_its_owners_alone() {
        let dir = directory("made").join("not/yet/there");
        assert_eq!(run(&args(&dir, false)), ExitCode::from(EXIT_DONE));
        assert!(Certificate::load(&dir.join(CERTIFICATE), &dir.join(KEY)).is_ok());
        let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(KEY), mode(CERTIFICATE) & 0o077), (KEY_MODE, CERTIFICATE_MODE & 0o077));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "no draft is left");
        directory("made");
    }

    #[test]
    fn files_that_are_there_are_replaced_only_by_force() {
        let dir = directory("kept");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(CERTIFICATE), "mine").unwrap();
        assert_eq!(run(&args(&dir, false)), ExitCode::from(EXIT_FAILED));
        assert_eq!(fs::read_to_string(dir.join(CERTIFICATE)).unwrap(), "mine");
        assert!(!dir.join(KEY).exists(), "both or none");
        assert_eq!(run(&args(&dir, true)), ExitCode::from(EXIT_DONE));
        let first = fs::read_to_string(dir.join(KEY)).unwrap();
        assert_eq!(run(&args(&dir, true)), ExitCode::from(EXIT_DONE));
        assert_ne!(fs::read_to_string(dir.join(KEY)).unwrap(), first);
        assert!(Certificate::load(&dir.join(CERTIFICATE), &dir.join(KEY)).is_ok());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in ["localhost", "live.example.org", "*.example.org", "192.0.2.7", "2001:db8::1"] {
            assert!(is_name(host), "{host}");
        }
        for host in ["", "*", "a b", "live.example.org/", "http://x", "-", "ä.example", "x:1936"] {
            assert!(!is_name(host), "{host}");
        }
        let wrong = CertArgs { hosts: vec!["a b".into()], out: directory("never"), force: false };
        assert_eq!(run(&wrong), ExitCode::from(EXIT_USAGE));
        assert!(!wrong.out.exists());
    }
}
