//! TLS in the kernel (kTLS): a connection whose handshake is done gives the kernel its keys, and its socket then takes and
//! brings what was said, while records go over the wire.
//!
//! The kernel's own words about it: Documentation/networking/tls.rst. What is handed to it are the structures of
//! `linux/tls.h`. Only TLS 1.3: there both ways of sealing make a record's nonce from its number, so that whoever goes on
//! where another stopped cannot use one twice. In 1.2 the sender chooses, and each has a way of its own.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use crate::system::set_option;

/// What records are sealed with. The kernel knows more of them; these are all that TLS 1.3 is spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-GCM with keys of 128 bits.
    Aes128Gcm,
    /// AES-GCM with keys of 256 bits.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    Chacha20Poly1305,
}

/// What one direction of a connection is sealed with from its next record on. It does not print itself: a key must never reach
/// a log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    secret: Secret,
    iv: [u8; IV_BYTES],
    /// The number of the next record.
    record: u64,
}

/// The key itself, by cipher.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    Aes128Gcm([u8; 16]),
    Aes256Gcm([u8; 32]),
    Chacha20Poly1305([u8; 32]),
}

impl Key {
    /// The key of a cipher, the IV that nonces are made from (RFC 8446, 5.3), and the number of the next record. `None` when
    /// the key is not as long as that cipher's.
    pub fn new(cipher: Cipher, key: &[u8], iv: [u8; IV_BYTES], record: u64) -> Option<Key> {
        let secret = match cipher {
            Cipher::Aes128Gcm => Secret::Aes128Gcm(key.try_into().ok()?),
            Cipher::Aes256Gcm => Secret::Aes256Gcm(key.try_into().ok()?),
            Cipher::Chacha20Poly1305 => Secret::Chacha20Poly1305(key.try_into().ok()?),
        };
        Some(Key { secret, iv, record })
    }

    /// Tells the kernel, in the structure that it has for this cipher.
    fn install(&self, socket: BorrowedFd<'_>, direction: libc::c_int) -> io::Result<()> {
        match self.secret {
            Secret::Aes128Gcm(key) => set_option(socket, libc::SOL_TLS, direction, self.aes_128_gcm(key)),
            Secret::Aes256Gcm(key) => set_option(socket, libc::SOL_TLS, direction, self.aes_256_gcm(key)),
            Secret::Chacha20Poly1305(key) => {
                set_option(socket, libc::SOL_TLS, direction, self.chacha20_poly1305(key))
            }
        }
    }

    fn aes_128_gcm(&self, key: [u8; 16]) -> libc::tls12_crypto_info_aes_gcm_128 {
        let (salt, iv) = self.halves();
        let info = info(libc::TLS_CIPHER_AES_GCM_128);
        libc::tls12_crypto_info_aes_gcm_128 { info, iv, key, salt, rec_seq: self.record.to_be_bytes() }
    }

    fn aes_256_gcm(&self, key: [u8; 32]) -> libc::tls12_crypto_info_aes_gcm_256 {
        let (salt, iv) = self.halves();
        let info = info(libc::TLS_CIPHER_AES_GCM_256);
        libc::tls12_crypto_info_aes_gcm_256 { info, iv, key, salt, rec_seq: self.record.to_be_bytes() }
    }

    fn chacha20_poly1305(&self, key: [u8; 32]) -> libc::tls12_crypto_info_chacha20_poly1305 {
        let info = info(libc::TLS_CIPHER_CHACHA20_POLY1305);
        let rec_seq = self.record.to_be_bytes();
        libc::tls12_crypto_info_chacha20_poly1305 { info, iv: self.iv, key, salt: [], rec_seq }
    }

    /// The IV as the kernel wants it for AES-GCM: four bytes that it calls the salt, as in 1.2, and the rest.
    fn halves(&self) -> ([u8; 4], [u8; 8]) {
        let [a, b, c, d, rest @ ..] = self.iv;
        ([a, b, c, d], rest)
    }
}

fn info(cipher_type: u16) -> libc::tls_crypto_info {
    libc::tls_crypto_info { version: libc::TLS_1_3_VERSION, cipher_type }
}

/// Whether the kernel seals with this cipher. Tried once per process, on a connection to ourselves.
pub fn takes(cipher: Cipher) -> bool {
    match (offer(), cipher) {
        (Err(_), _) => false,
        (Ok(offer), Cipher::Aes128Gcm) => offer.aes_128_gcm,
        (Ok(offer), Cipher::Aes256Gcm) => offer.aes_256_gcm,
        (Ok(offer), Cipher::Chacha20Poly1305) => offer.chacha20_poly1305,
    }
}

/// Why the kernel seals nothing at all, if that is so.
pub fn refusal() -> Option<io::Error> {
    offer().err().map(io::Error::from_raw_os_error)
}

/// Makes a connection ready for keys. Nothing is sealed yet, and everything still comes and goes as before.
///
/// # Errors
/// The kernel has no TLS (ENOENT), or the peer has gone by now (ENOTCONN). The connection is as it was.
pub fn begin(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_ULP, *b"tls")
}

/// Gives a connection that is ready its keys. What is sent from here on is sealed, what is received was opened. No receive may
/// be running, and everything that was received before must have been opened.
///
/// # Errors
/// The kernel does not take a key. The connection is of no use any more: what the one side seals the other may not open.
pub fn install(socket: BorrowedFd<'_>, send: &Key, receive: &Key) -> io::Result<()> {
    send.install(socket, libc::TLS_TX)?;
    receive.install(socket, libc::TLS_RX)
}

/// Says goodbye (close_notify; RFC 8446, 6.1) behind what was sent on a connection that has its keys. Never waits.
///
/// # Errors
/// `WouldBlock` when the socket has no room for it; anything else means that the connection broke.
pub fn goodbye(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut alert = CLOSE_NOTIFY;
    let mut part = libc::iovec { iov_base: alert.as_mut_ptr().cast(), iov_len: alert.len() };
    let mut control = RecordType::alert();
    // SAFETY: a message without a name, parts or control data is what all zeros stand for.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = RecordType::LENGTH as _;
    // SAFETY: the message points to `part`, which points to `alert`, and to `control`, with their lengths; all of them outlive
    // the call, and the kernel only reads them.
    let sent = unsafe {
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a receive that failed with this, on a connection that has its keys, has met a record that is not of what the peer
/// says: its goodbye, as a rule. A plain receive cannot take one, and never gets past it.
pub fn is_end(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// The control message that gives a record its type (TLS_SET_RECORD_TYPE), laid out as cmsg(3) says.
#[repr(C)]
struct RecordType {
    head: libc::cmsghdr,
    value: [u8; size_of::<usize>()],
}

impl RecordType {
    /// Head and value, without what fills up the last word.
    const LENGTH: usize = size_of::<libc::cmsghdr>() + 1;

    fn alert() -> RecordType {
        // SAFETY: the structure is of integers alone, for which zeros are a value.
        let mut head: libc::cmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        head.cmsg_level = libc::SOL_TLS;
        head.cmsg_type = libc::TLS_SET_RECORD_TYPE;
        head.cmsg_len = RecordType::LENGTH as _;
        let mut value = [0; size_of::<usize>()];
        value[0] = ALERT;
        RecordType { head, value }
    }
}

/// What this kernel has.
#[derive(Clone, Copy, Debug)]
struct Offer {
    aes_128_gcm: bool,
    aes_256_gcm: bool,
    chacha20_poly1305: bool,
}

/// What this kernel has, or the code of the error that it answers with.
fn offer() -> Result<Offer, i32> {
    static OFFER: OnceLock<Result<Offer, i32>> = OnceLock::new();
    *OFFER.get_or_init(|| {
        let code = |error: io::Error| error.raw_os_error().unwrap_or(libc::ENOTSUP);
        let has = |cipher, key: &[u8]| match try_out(cipher, key) {
            // Its ciphers are modules of their own, and one may be missing.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            result => result.map(|()| true).map_err(code),
        };
        let (client, _server) = connection().map_err(code)?;
        begin(client.as_fd()).map_err(code)?;
        Ok(Offer {
            aes_128_gcm: has(Cipher::Aes128Gcm, &[1; 16])?,
            aes_256_gcm: has(Cipher::Aes256Gcm, &[1; 32])?,
            chacha20_poly1305: has(Cipher::Chacha20Poly1305, &[1; 32])?,
        })
    })
}

fn try_out(cipher: Cipher, key: &[u8]) -> io::Result<()> {
    let (client, _server) = connection()?;
    let key = Key::new(cipher, key, [0; IV_BYTES], 0).ok_or(io::ErrorKind::InvalidInput)?;
    begin(client.as_fd())?;
    install(client.as_fd(), &key, &key)
}

/// Both ends of a connection to ourselves: the kernel takes keys for nothing else.
fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

/// Bytes of the IV of a direction, the same for every cipher (RFC 8446, 5.3).
pub const IV_BYTES: usize = 12;
/// The type of a record that holds an alert (RFC 8446, 5.1).
const ALERT: u8 = 21;
/// A warning, and that it is a goodbye (RFC 8446, 6).
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    const IV: [u8; IV_BYTES] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    #[test]
    fn the_kernel_is_told_the_cipher_the_iv_in_its_halves_and_the_number_of_the_next_record() {
        let key = Key::new(Cipher::Aes128Gcm, &[7; 16], IV, 258).unwrap();
        let told = key.aes_128_gcm([7; 16]);
        assert!(key.secret == Secret::Aes128Gcm([7; 16]));
        assert_eq!((told.info.version, told.info.cipher_type), (0x0304, 51));
        assert_eq!((told.salt, told.iv), ([1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11, 12]));
        assert_eq!((told.key, told.rec_seq), ([7; 16], [0, 0, 0, 0, 0, 0, 1, 2]));
        let key = Key::new(Cipher::Aes256Gcm, &[8; 32], IV, 0).unwrap();
        let told = key.aes_256_gcm([8; 32]);
        assert!(key.secret == Secret::Aes256Gcm([8; 32]));
        assert_eq!((told.info.version, told.info.cipher_type), (0x0304, 52));
        assert_eq!((told.salt, told.iv), ([1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11, 12]));
        assert_eq!((told.key, told.rec_seq), ([8; 32], [0; 8]));
        let key = Key::new(Cipher::Chacha20Poly1305, &[9; 32], IV, u64::MAX).unwrap();
        let told = key.chacha20_poly1305([9; 32]);
        assert!(key.secret == Secret::Chacha20Poly1305([9; 32]));
        assert_eq!((told.info.version, told.info.cipher_type), (0x0304, 54));
        assert_eq!((told.iv, told.key, told.rec_seq), (IV, [9; 32], [255; 8]));
    }

    #[test]
    fn the_structures_are_as_long_as_those_of_linux_tls_h() {
        assert_eq!(size_of::<libc::tls12_crypto_info_aes_gcm_128>(), 4 + 8 + 16 + 4 + 8);
        assert_eq!(size_of::<libc::tls12_crypto_info_aes_gcm_256>(), 4 + 8 + 32 + 4 + 8);
        assert_eq!(size_of::<libc::tls12_crypto_info_chacha20_poly1305>(), 4 + 12 + 32 + 8);
        // SAFETY: the call only reckons.
        assert_eq!(size_of::<RecordType>(), unsafe { libc::CMSG_SPACE(1) } as usize);
        // SAFETY: so does this one.
        assert_eq!(RecordType::LENGTH, unsafe { libc::CMSG_LEN(1) } as usize);
    }

    #[test]
    fn a_key_of_another_length_is_none() {
        for (cipher, length) in
            [(Cipher::Aes128Gcm, 32), (Cipher::Aes256Gcm, 16), (Cipher::Chacha20Poly1305, 31)]
        {
            assert!(Key::new(cipher, &vec![0; length], IV, 0).is_none(), "{cipher:?}");
        }
    }

    #[test]
    fn what_the_kernel_seals_the_kernel_opens_and_a_goodbye_ends_it() {
        let ciphers = [(Cipher::Aes128Gcm, 16), (Cipher::Aes256Gcm, 32), (Cipher::Chacha20Poly1305, 32)];
        if let Some(error) = refusal() {
            // Many kernels have none. Then nobody may think that this one has.
            assert!(ciphers.iter().all(|(cipher, _)| !takes(*cipher)), "{error}");
            let (client, _server) = connection().unwrap();
            assert!(begin(client.as_fd()).is_err());
            return;
        }
        for (cipher, length) in ciphers.into_iter().filter(|(cipher, _)| takes(*cipher)) {
            let (mut client, mut server) = connection().unwrap();
            let [one, other] = [3, 4].map(|byte| Key::new(cipher, &vec![byte; length], IV, 5).unwrap());
            begin(client.as_fd()).unwrap();
            begin(server.as_fd()).unwrap();
            install(client.as_fd(), &one, &other).unwrap();
            // One that has come before the kernel had the key is opened with it as well.
            client.write_all(b"well met").unwrap();
            install(server.as_fd(), &other, &one).unwrap();
            let mut said = [0; 8];
            server.read_exact(&mut said).unwrap();
            assert_eq!(&said, b"well met");
            goodbye(client.as_fd()).unwrap();
            let error = server.read(&mut said).unwrap_err();
            assert!(is_end(&error), "{cipher:?}: {error}");
        }
    }
}
