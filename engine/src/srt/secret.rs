//! Encryption: keys that a passphrase wraps, and payloads that keys hide. (draft-sharabayko-srt-01, 3.2.2 and 6)

use std::fmt;

use aes::{
    Aes128Enc, Aes192Enc, Aes256Enc,
    cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper, generic_array::GenericArray},
};
use aes_kw::{KekAes128, KekAes192, KekAes256};
use ctr::{CtrCore, flavors::Ctr128BE};
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;

use super::{packet::Parity, sequence::Sequence};
use crate::{bits::Reader, error::Error};

/// Fewest and most characters of a passphrase, as libsrt has them.
pub const PASSPHRASE_BYTES: std::ops::RangeInclusive<usize> = 10..=79;
/// How often the passphrase is hashed to make the key that wraps the others.
const ITERATIONS: u32 = 2048;
const SALT_BYTES: usize = 16;
/// What wrapping adds: eight bytes that tell whether the key was the right one. (RFC 3394)
const CHECK_BYTES: usize = 8;

/// Keys of a connection, both ways.
#[derive(Clone)]
pub struct Keys {
    salt: [u8; SALT_BYTES],
    length: usize,
    even: Option<Key>,
    odd: Option<Key>,
}

/// A key, as it came and made ready.
#[derive(Clone)]
struct Key {
    bytes: Vec<u8>,
    cipher: Cipher,
}

#[derive(Clone)]
enum Cipher {
    Aes128(Box<Aes128Enc>),
    Aes192(Box<Aes192Enc>),
    Aes256(Box<Aes256Enc>),
}

/// Why keys cannot be had from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is none, or of a kind that there is not here.
    Malformed(Error),
    /// The passphrase is another one.
    WrongSecret,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} bits)", self.length * 8)
    }
}

impl Keys {
    /// Opens a message of keys.
    ///
    /// # Errors
    /// It is not what it should be, or `passphrase` does not open it.
    pub fn open(message: &[u8], passphrase: &str) -> Result<Keys, Refused> {
        let head = Head::read(message).map_err(Refused::Malformed)?;
        let length = head.length;
        let mut opened = vec![0; head.wrapped.len() - CHECK_BYTES];
        let kek = wrapping_key(passphrase, &head.salt, length);
        unwrap(&kek, head.wrapped, &mut opened).ok_or(Refused::WrongSecret)?;
        let mut keys = Keys { salt: head.salt, length, even: None, odd: None };
        let mut parts = opened.chunks_exact(length).map(Key::new);
        for parity in [Parity::Even, Parity::Odd] {
            if head.which & parity.bits() != 0 {
                *keys.slot(parity) = parts.next().flatten();
            }
        }
        Ok(keys)
    }

    /// New keys: an even one of `length` bytes (16, 24 or 32).
    pub fn new(length: usize, salt: [u8; SALT_BYTES], key: &[u8]) -> Option<Keys> {
        let even = Key::new(key.get(..length)?)?;
        Some(Keys { salt, length, even: Some(even), odd: None })
    }

    /// Takes another key for packets of this parity.
    pub fn replace(&mut self, parity: Parity, key: &[u8]) {
        if let Some(key) = key.get(..self.length).and_then(Key::new) {
            *self.slot(parity) = Some(key);
        }
    }

    /// Takes what `newer` has in addition, or instead.
    pub fn merge(&mut self, newer: Keys) {
        if newer.salt != self.salt || newer.length != self.length {
            *self = newer;
            return;
        }
        self.even = newer.even.or(self.even.take());
        self.odd = newer.odd.or(self.odd.take());
    }

    /// Forgets the key of this parity.
    pub fn forget(&mut self, parity: Parity) {
        *self.slot(parity) = None;
    }

    /// Bytes of a key.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// The parity of a key that it has.
    pub fn parity(&self) -> Parity {
        if self.even.is_some() { Parity::Even } else { Parity::Odd }
    }

    /// The message that tells another side of these keys.
    pub fn message(&self, passphrase: &str) -> Vec<u8> {
        let keys: Vec<&Key> = self.even.iter().chain(&self.odd).collect();
        let which = self.even.as_ref().map_or(0, |_| 1) | self.odd.as_ref().map_or(0, |_| 2);
        let mut message =
            vec![0x12, 0x20, 0x29, which, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 4, (self.length / 4) as u8];
        message.extend(self.salt);
        let plain: Vec<u8> = keys.iter().flat_map(|key| key.bytes.iter().copied()).collect();
        let mut wrapped = vec![0; plain.len() + CHECK_BYTES];
        let kek = wrapping_key(passphrase, &self.salt, self.length);
        if wrap(&kek, &plain, &mut wrapped).is_some() {
            message.extend(wrapped);
        }
        message
    }

    /// Hides a payload, or shows what was hidden: the same step undoes itself. False when there is no such key.
    pub fn apply(&self, parity: Parity, sequence: Sequence, payload: &mut [u8]) -> bool {
        let key = match parity {
            Parity::Even => &self.even,
            Parity::Odd => &self.odd,
        };
        let Some(key) = key else { return false };
        // The salt's first 14 bytes with the packet's number in the last four of them, then a counter of blocks. (6.1.3)
        let mut iv = [0; 16];
        iv.iter_mut().zip(self.salt).take(14).for_each(|(to, from)| *to = from);
        let number = sequence.bits().to_be_bytes();
        iv.iter_mut().skip(10).zip(number).for_each(|(to, from)| *to ^= from);
        key.cipher.apply(&iv, payload);
        true
    }

    fn slot(&mut self, parity: Parity) -> &mut Option<Key> {
        match parity {
            Parity::Even => &mut self.even,
            Parity::Odd => &mut self.odd,
        }
    }
}

impl Key {
    fn new(bytes: &[u8]) -> Option<Key> {
        let cipher = match bytes.len() {
            16 => Cipher::Aes128(Box::new(Aes128Enc::new_from_slice(bytes).ok()?)),
            24 => Cipher::Aes192(Box::new(Aes192Enc::new_from_slice(bytes).ok()?)),
            32 => Cipher::Aes256(Box::new(Aes256Enc::new_from_slice(bytes).ok()?)),
            _ => return None,
        };
        Some(Key { bytes: bytes.to_vec(), cipher })
    }
}

impl Cipher {
    fn apply(&self, iv: &[u8; 16], payload: &mut [u8]) {
        let iv = GenericArray::from_slice(iv);
        // The schedule of the key is copied, not made again.
        macro_rules! apply {
            ($key:expr, $kind:ty) => {
                StreamCipherCoreWrapper::<CtrCore<$kind, Ctr128BE>>::from_core(CtrCore::inner_iv_init(
                    <$kind>::clone($key),
                    iv,
                ))
                .apply_keystream(payload)
            };
        }
        match self {
            Cipher::Aes128(key) => apply!(key, Aes128Enc),
            Cipher::Aes192(key) => apply!(key, Aes192Enc),
            Cipher::Aes256(key) => apply!(key, Aes256Enc),
        }
    }
}

/// What stands in a message of keys.
struct Head<'a> {
    /// Bit 0: the even key; bit 1: the odd one.
    which: u8,
    salt: [u8; SALT_BYTES],
    length: usize,
    wrapped: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(message: &'a [u8]) -> Result<Head<'a>, Error> {
        const WHAT: &str = "message of keys";
        let mut reader = Reader::new(message);
        let [version, sign, sign_end, which] = reader.array(WHAT)?;
        if [version, sign, sign_end] != [0x12, 0x20, 0x29] {
            return Err(Error::malformed("a message of keys without its sign", 0));
        }
        let which = which & 3;
        if which == 0 {
            return Err(Error::malformed("a message of keys without one", 3));
        }
        let [_, _, _, _, cipher, authentication, _, _, _, _, salt, length] = reader.array(WHAT)?;
        if cipher != 2 || authentication != 0 {
            return Err(Error::unsupported("a cipher other than AES in counter mode", 8));
        }
        let length = 4 * usize::from(length);
        if usize::from(salt) * 4 != SALT_BYTES || ![16, 24, 32].contains(&length) {
            return Err(Error::malformed("a salt or a key of a length that there is not", 14));
        }
        let salt = reader.array(WHAT)?;
        let wrapped = reader.rest();
        if wrapped.len() != which.count_ones() as usize * length + CHECK_BYTES {
            return Err(Error::malformed("wrapped keys of another length than they have", 32));
        }
        Ok(Head { which, salt, length, wrapped })
    }
}

/// The key that wraps the others. (6.1.4)
fn wrapping_key(passphrase: &str, salt: &[u8; SALT_BYTES], length: usize) -> Vec<u8> {
    let mut key = vec![0; length];
    pbkdf2_hmac::<Sha1>(passphrase.as_bytes(), salt.split_at(8).1, ITERATIONS, &mut key);
    key
}

fn unwrap(kek: &[u8], wrapped: &[u8], out: &mut [u8]) -> Option<()> {
    match kek.len() {
        16 => KekAes128::try_from(kek).ok()?.unwrap(wrapped, out).ok(),
        24 => KekAes192::try_from(kek).ok()?.unwrap(wrapped, out).ok(),
        _ => KekAes256::try_from(kek).ok()?.unwrap(wrapped, out).ok(),
    }
}

fn wrap(kek: &[u8], plain: &[u8], out: &mut [u8]) -> Option<()> {
    match kek.len() {
        16 => KekAes128::try_from(kek).ok()?.wrap(plain, out).ok(),
        24 => KekAes192::try_from(kek).ok()?.wrap(plain, out).ok(),
        _ => KekAes256::try_from(kek).ok()?.wrap(plain, out).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(length: usize) -> Keys {
        Keys::new(length, [5; 16], &[7; 32]).unwrap()
    }

    #[test]
    fn keys_of_each_length_go_over_and_hide_a_payload() {
        for length in [16, 24, 32] {
            let ours = keys(length);
            let message = ours.message("a long passphrase");
            assert_eq!(message.len(), 16 + 16 + 8 + length);
            let theirs = Keys::open(&message, "a long passphrase").unwrap();
            assert!(matches!(Keys::open(&message, "another passphrase"), Err(Refused::WrongSecret)));
            let plain: Vec<u8> = (0..=255).cycle().take(1316).collect();
            let mut payload = plain.clone();
            assert!(ours.apply(Parity::Even, Sequence::of(99), &mut payload));
            assert_ne!(payload, plain);
            assert!(!theirs.apply(Parity::Odd, Sequence::of(99), &mut payload), "it has none");
            assert!(theirs.apply(Parity::Even, Sequence::of(99), &mut payload));
            assert_eq!(payload, plain);
        }
    }

    #[test]
    fn a_second_key_goes_with_the_first_or_alone() {
        let mut ours = keys(16);
        ours.replace(Parity::Odd, &[8; 32]);
        let mut theirs = Keys::open(&ours.message("a long passphrase"), "a long passphrase").unwrap();
        ours.forget(Parity::Even);
        assert_eq!((ours.parity(), theirs.parity()), (Parity::Odd, Parity::Even));
        ours.replace(Parity::Odd, &[9; 32]);
        theirs.merge(Keys::open(&ours.message("a long passphrase"), "a long passphrase").unwrap());
        let mut payload = *b"payload";
        assert!(ours.apply(Parity::Odd, Sequence::of(1), &mut payload));
        assert!(theirs.apply(Parity::Odd, Sequence::of(1), &mut payload) && payload == *b"payload");
        assert!(theirs.apply(Parity::Even, Sequence::of(1), &mut payload), "the older one is still there");
    }

    #[test]
    fn a_message_of_every_other_length_is_refused() {
        let message = keys(32).message("a long passphrase");
        for length in 0..message.len() + 40 {
            let mut cut = message.clone();
            cut.resize(length, 0);
            let opened = Keys::open(&cut, "a long passphrase");
            assert_eq!(opened.is_ok(), length == message.len(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(change in proptest::collection::vec((0usize..72, any::<u8>()), 1..6)) {
            let mut message = keys(32).message("a long passphrase");
            change.into_iter().for_each(|(at, byte)| message[at] = byte);
            let _ = Keys::open(&message, "a long passphrase");
        }
    }
}
