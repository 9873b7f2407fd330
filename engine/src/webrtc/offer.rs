//! What a peer offers: which kinds of media, which way, in which codings. (RFC 8829, 5.8; RFC 8866; payload types: RFC 4566, 6 and
//! RFC 4588, 8.6)

use sdp_types::{Media, Session};

use crate::{
    codec::{Codec, Parameters, h264},
    rtp::format::{Coding, Format},
};

/// Kinds of media that an offer may have. More are not looked at.
const MEDIA_MAX: usize = 32;
/// Codings that each may have: as many as there are payload types.
const CODINGS_MAX: usize = 128;

/// What is offered.
#[derive(Debug, Default)]
pub struct Offer {
    /// The media that carry pictures or sound, in the order of the description.
    pub media: Vec<Offered>,
}

/// One of the media.
#[derive(Debug)]
pub struct Offered {
    /// Pictures; else sound.
    pub video: bool,
    /// What the description calls it. (RFC 5888)
    pub mid: String,
    /// The peer sends it.
    pub sends: bool,
    /// The peer takes it.
    pub receives: bool,
    /// How it may come, the best first.
    pub choices: Vec<Choice>,
}

/// A coding in which media may come.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The number that its packets bear, and what is in them.
    pub format: Format,
    /// The number of packets that are sent again. (RFC 4588)
    pub again: Option<u8>,
    /// What `a=fmtp` says of it, without the number.
    pub parameters: String,
}

impl Offer {
    /// Reads a description. `None` when it is none.
    pub fn read(sdp: &str) -> Option<Offer> {
        let session = Session::parse(sdp.as_bytes()).ok()?;
        let direction = direction(&session.attributes.iter().map(attribute).collect::<Vec<_>>());
        let media = session.medias.iter().take(MEDIA_MAX);
        Some(Offer { media: media.filter_map(|media| read_media(media, direction)).collect() })
    }

    /// The first of the media of this kind that goes that way.
    pub fn find(&self, video: bool, sent: bool) -> Option<&Offered> {
        self.media
            .iter()
            .find(|media| media.video == video && if sent { media.sends } else { media.receives })
    }
}

/// An offer whose media go one way alone, whatever else they could: the answer to a publisher has to say that it only receives.
/// (RFC 9725, 4.2)
pub fn one_way(sdp: &str, publish: bool) -> String {
    sdp.replace("a=sendrecv", if publish { "a=sendonly" } else { "a=recvonly" })
}

/// A name and what stands behind it.
fn attribute(attribute: &sdp_types::Attribute) -> (&str, &str) {
    (&attribute.attribute, attribute.value.as_deref().unwrap_or_default())
}

/// Whether it is sent and received, if attributes say so.
fn direction(attributes: &[(&str, &str)]) -> Option<(bool, bool)> {
    attributes.iter().find_map(|(name, _)| match *name {
        "sendrecv" => Some((true, true)),
        "sendonly" => Some((true, false)),
        "recvonly" => Some((false, true)),
        "inactive" => Some((false, false)),
        _ => None,
    })
}

fn read_media(media: &Media, of_session: Option<(bool, bool)>) -> Option<Offered> {
    let video = match media.media.as_str() {
        "video" => true,
        "audio" => false,
        _ => return None,
    };
    let attributes: Vec<_> = media.attributes.iter().map(attribute).collect();
    let (sends, receives) = direction(&attributes).or(of_session).unwrap_or((true, true));
    let mid = attributes.iter().find(|(name, _)| *name == "mid").map_or("", |(_, mid)| mid);
    let about = |name: &str, number: u8| {
        attributes.iter().filter(|(found, _)| *found == name).find_map(|(_, value)| {
            let (found, rest) = value.split_once(' ')?;
            (found.parse() == Ok(number)).then_some(rest.trim())
        })
    };
    let numbers: Vec<u8> =
        media.fmt.split_whitespace().take(CODINGS_MAX).filter_map(|number| number.parse().ok()).collect();
    let again = |number: u8| {
        numbers.iter().copied().find(|other| {
            let rtx = about("rtpmap", *other).is_some_and(|mapping| {
                mapping.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("rtx/"))
            });
            let of = about("fmtp", *other).and_then(|parameters| parameters.split(';').find_map(apt));
            rtx && of == Some(number)
        })
    };
    let choices = numbers.iter().filter_map(|number| {
        let (mapping, parameters) = (about("rtpmap", *number), about("fmtp", *number).unwrap_or_default());
        let format = Format::read(*number, mapping, parameters)?;
        let known = format.coding.is_video() == video && is_negotiable(&format.coding, parameters);
        known.then(|| Choice { format, again: again(*number), parameters: parameters.to_owned() })
    });
    Some(Offered { video, mid: mid.to_owned(), sends, receives, choices: choices.collect() })
}

/// The number that packets which are sent again stand for.
fn apt(parameter: &str) -> Option<u8> {
    let (name, value) = parameter.split_once('=')?;
    name.trim().eq_ignore_ascii_case("apt").then(|| value.trim().parse().ok())?
}

/// What WebRTC carries. H.264 in whole NAL units alone cannot hold a picture of usual size. (RFC 6184, 6.2)
fn is_negotiable(coding: &Coding, parameters: &str) -> bool {
    match coding {
        Coding::H264(_) => value(parameters, "packetization-mode") == Some("1"),
        Coding::H265(_) | Coding::Frames(_) | Coding::Opus { .. } | Coding::Voice(_) => true,
        Coding::Aac { .. } | Coding::Latm { .. } | Coding::Mp3 => false,
    }
}

fn value<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (found, value) = parameter.split_once('=')?;
        found.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// The codec of a coding.
pub fn codec_of(coding: &Coding) -> Option<Codec> {
    Some(match coding {
        Coding::H264(_) => Codec::H264,
        Coding::H265(_) => Codec::H265,
        Coding::Frames(codec) | Coding::Voice(codec) => *codec,
        Coding::Opus { .. } => Codec::Opus,
        Coding::Aac { .. } | Coding::Latm { .. } | Coding::Mp3 => return None,
    })
}

impl Offered {
    /// How a publisher is asked to send it: H.264 where it can, which all doors and all players have, else what it likes best.
    pub fn to_publish(&self) -> Option<&Choice> {
        self.h264().or(self.choices.first())
    }

    /// H.264, if it may come so.
    pub fn h264(&self) -> Option<&Choice> {
        self.choices.iter().find(|choice| matches!(choice.format.coding, Coding::H264(_)))
    }

    /// How a viewer is sent a track with these parameters. Whoever takes H.264 takes any profile, as a rule, and says one of those
    /// that it would send: the nearest is chosen.
    pub fn to_play(&self, parameters: &Parameters) -> Option<&Choice> {
        let same = |choice: &&Choice| codec_of(&choice.format.coding) == Some(parameters.codec);
        let profile =
            h264::Configuration::parse(&parameters.configuration).ok().map(|found| found.sps.profile);
        let of_profile = |choice: &Choice| {
            let id =
                value(&choice.parameters, "profile-level-id").and_then(|id| u32::from_str_radix(id, 16).ok());
            id.map(|id| (id >> 16) as u8)
        };
        let exact = |choice: &&Choice| profile.is_none() || of_profile(choice) == profile;
        let mut fitting = self.choices.iter().filter(same);
        fitting.clone().find(exact).or_else(|| fitting.next())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::samples::{self, hex};

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n\
        a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\n\
        a=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 104 105 106 107\r\na=mid:1\r\na=recvonly\r\n\
        a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
        a=rtpmap:102 H264/90000\r\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f\r\n\
        a=rtpmap:104 H264/90000\r\na=fmtp:104 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
        a=rtpmap:105 rtx/90000\r\na=fmtp:105 apt=104\r\n\
        a=rtpmap:106 H264/90000\r\na=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n";

    #[test]
    fn an_offer_of_a_browser_is_read() {
        let offer = Offer::read(OFFER).unwrap();
        assert_eq!(offer.media.len(), 2);
        let audio = offer.find(false, true).unwrap();
        assert_eq!((audio.mid.as_str(), audio.receives), ("0", false));
        let numbers: Vec<u8> = audio.choices.iter().map(|choice| choice.format.payload_type).collect();
        assert_eq!(numbers, [111, 9, 0, 8]);
        assert!(offer.find(true, true).is_none());
        let video = offer.find(true, false).unwrap();
        let choices: Vec<_> =
            video.choices.iter().map(|choice| (choice.format.payload_type, choice.again)).collect();
        assert_eq!(choices, [(96, Some(97)), (104, Some(105)), (106, None)]);
        assert_eq!(video.to_publish().unwrap().format.payload_type, 104);
    }

    #[test]
    fn what_could_go_both_ways_goes_one() {
        let offer = OFFER.replace("a=recvonly", "a=sendrecv");
        assert!(Offer::read(&offer).unwrap().find(true, true).is_some());
        let ways = |publish| {
            let offer = Offer::read(&one_way(&offer, publish)).unwrap();
            offer.media.iter().map(|media| (media.sends, media.receives)).collect::<Vec<_>>()
        };
        assert_eq!(ways(true), [(true, false), (true, false)]);
        assert_eq!(ways(false), [(true, false), (false, true)]);
    }

    #[test]
    fn a_viewer_is_sent_the_nearest_profile_of_the_codec_and_nothing_else() {
        let offer = Offer::read(OFFER).unwrap();
        let video = offer.find(true, false).unwrap();
        let high = Parameters::parse(Codec::H264, hex(samples::H264_HIGH_720).into()).unwrap();
        assert_eq!(video.to_play(&high).unwrap().format.payload_type, 106);
        let without = OFFER.replace("profile-level-id=64001f", "profile-level-id=4d001f");
        let offer = Offer::read(&without).unwrap();
        assert_eq!(offer.find(true, false).unwrap().to_play(&high).unwrap().format.payload_type, 104);
        assert!(video.to_play(&Parameters::of_opus(2)).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(
            lines in prop::collection::vec(prop::sample::select(OFFER.lines().collect::<Vec<_>>()), 0..60),
            stray in ".{0,40}",
            at in 0..60_usize,
        ) {
            let mut lines = lines;
            lines.insert(at.min(lines.len()), &stray);
            if let Some(offer) = Offer::read(&lines.join("\r\n")) {
                for media in &offer.media {
                    let _ = (media.to_publish(), media.to_play(&Parameters::of_opus(2)));
                }
            }
        }
    }
}
