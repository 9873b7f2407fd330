//! Every bound in one table, and what happens when it is reached. How the numbers depend on each other is asserted
//! where they stand. What an operator may choose is in [`StreamLimits`] and [`DoorLimits`]; the rest is fixed.

mod srt;

use std::{net::IpAddr, sync::Arc, time::Duration};

pub use srt::SrtSettings;

/// Characters in one part of a stream's name. A longer name is refused.
pub const NAME_PART_BYTES_MAX: usize = 128;

/// Bytes of one RTMP message that a peer may declare (a 24-bit field: 16 MiB less one). Memory is taken as the bytes
/// arrive, never on the word of the length field. Enough for a key frame at 400 Mbit/s.
pub const RTMP_MESSAGE_BYTES_MAX: usize = (1 << 24) - 1;
/// Chunk streams one RTMP connection may use at once (the protocol allows 65,599). The next one closes the connection.
pub const RTMP_CHUNK_STREAMS_MAX: usize = 32;
/// Bytes of unfinished messages that one RTMP connection may hold over all its chunk streams. One more closes it.
pub const RTMP_PARTIAL_BYTES_MAX: usize = RTMP_MESSAGE_BYTES_MAX + (1 << 20);
/// Bytes of an RTMP command or data message. A longer one closes the connection.
pub const RTMP_COMMAND_BYTES_MAX: usize = 256 << 10;
/// Values that may nest in an AMF value. Deeper closes the connection.
pub const AMF_DEPTH_MAX: usize = 16;
/// Values in one AMF message, all levels together. More closes the connection.
pub const AMF_VALUES_MAX: usize = 4096;
/// Bytes of metadata kept per stream. Larger metadata is dropped, with a log line.
pub const METADATA_BYTES_MAX: usize = 64 << 10;
/// Bytes of a decoder configuration. A larger one is an error of the publisher.
pub const CONFIGURATION_BYTES_MAX: usize = 64 << 10;
/// Luma samples along one side of a picture: what MP4's sample entries have room for. A larger picture is an error of
/// the publisher.
pub const PICTURE_SIDE_MAX: u32 = 65_535;
/// Bytes of an HTTP request's head. A longer one is answered 431 and closed.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Header fields of an HTTP request. More are answered 431 and closed.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Bytes of an HTTP request's target (path and query). A longer one is answered 414 and closed.
pub const HTTP_TARGET_BYTES_MAX: usize = 8 << 10;
/// Bytes of a request's body: a session description by WHIP and WHEP. Any other is read and dropped, so that the connection can
/// go on. A longer one is answered 413 and closed. Also what a viewer may send while it plays.
pub const HTTP_BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes of a WebSocket message from a viewer (it has nothing to say but pongs and close). A longer one closes it.
pub const WEBSOCKET_MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of the head of an RTSP request or answer. What is longer closes the connection.
pub const RTSP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Bytes of the body of an RTSP request or answer. What is longer closes the connection.
pub const RTSP_BODY_BYTES_MAX: usize = 64 << 10;
/// Requests for the same stream that may be refused on one connection: the first may come without credentials, to learn which
/// are wanted. One more, and the connection is closed.
pub const RTSP_REFUSALS_MAX: u32 = 3;
/// Bytes that may wait in one connection's outbox beside the stream itself. A peer that makes us answer more than it
/// reads is closed.
pub const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// Bytes of a connection that may arrive while it moves to the core that owns its stream. More, and its receive is
/// paused by closing it: a peer may not send faster than a move of well under a second takes.
pub const UNREAD_BYTES_MAX: usize = 16 << 20;
/// The same for a viewer that waits for its stream, who has little to say. More closes it.
pub const UNREAD_VIEWER_BYTES_MAX: usize = 64 << 10;
/// Bytes of packets that the sessions of a core have copied of shared blocks and may still find again; see
/// [`Shelf`](crate::session::Shelf). Twice what a core sends of many streams between two flushes.
pub const SHELF_BYTES_MAX: usize = 8 << 20;
/// Packets of SRT that one side holds of a connection, in order to put them in order or to send them again: 11 MB. What is further
/// ahead is not taken, and a viewer that has so many on their way lags.
pub const SRT_WINDOW_PACKETS: usize = 8192;
/// Bytes of a packet of SRT with IP and UDP around it: what Ethernet carries.
pub const SRT_MTU: u32 = 1500;
/// Bytes that a session which [carries](crate::session::Session::carries) the stream takes whole, however little room it has: what a
/// viewer is sent before a frame. Of what is longer the viewer is closed for.
pub const CARRIED_HEADER_BYTES_MAX: usize = 16 << 10;
/// Bytes of a datagram: what UDP over IPv4 can carry. A session that sends more in one is closed.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Bytes of datagrams that cross to another core in one message; the datagram that reaches it is the last.
pub const DATAGRAM_BATCH_BYTES: usize = 64 << 10;
/// Targets that one stream is pushed to, those of its app among them. A config that names more is refused.
pub const PUSHES_PER_STREAM_MAX: usize = 16;
/// Bytes of a URL that a stream is pushed to or pulled from. A longer one is refused.
pub const RELAY_URL_BYTES_MAX: usize = 1024;
/// How long a push or a pull that failed waits before it is tried again: twice as long each time, and at most
/// [`RELAY_RETRY_MAX`]. One that has lasted for longer than that begins with this one again.
pub const RELAY_RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest such pause. A fault of one kind is told at most once in twice this time.
pub const RELAY_RETRY_MAX: Duration = Duration::from_secs(30);
/// How long reaching another server may take, for each of its addresses. Then the next is tried, and after the last it has failed.
pub const RELAY_CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Servers that one core reaches for at once. What is to be reached beyond that waits a moment.
pub const RELAY_CONNECTS_MAX: usize = 8;
/// Bytes of a datagram of RTP beside a connection: what a network with large frames carries. A larger one is left out, so that what waits for
/// its turn is bounded.
pub const RTP_DATAGRAM_BYTES_MAX: usize = 9_000;
/// How many bytes of a stream go to a viewer's ports at once, and how soon more may: a socket for datagrams holds some 200 KB as
/// clients open it, and whatever is sent faster than they read is lost. A viewer that comes in is sent a whole group, at 26 Mbit/s.
/// Where more comes between two flushes, as much goes as came.
pub const PACE_BYTES: usize = 32 << 10;
/// See [`PACE_BYTES`].
pub const PACE_TIME: Duration = Duration::from_millis(10);
/// Longest part of a recording that a crash may lose, and so the longest fragment.
pub const FRAGMENT_DURATION_MAX: Duration = Duration::from_secs(1);
/// When an open fragment is cut. The rest up to [`FRAGMENT_DURATION_MAX`] is the time its write may take, so that what a
/// crash loses stays below that bound.
pub const FRAGMENT_CUT_AFTER: Duration = Duration::from_millis(900);
/// Fragments begin at every key frame that is at least this far from the last one that began a fragment. A stream of
/// nothing but key frames would else write each of them alone.
pub const FRAGMENT_KEY_SPACING_MIN: Duration = Duration::from_millis(500);
/// Bytes at which an open fragment is cut, however short it is.
pub const FRAGMENT_BYTES_CUT: usize = 4 << 20;
/// Frames at which an open fragment is cut, however short it is. So few that its head fits into the first block: ffmpeg
/// refuses a file that ends inside a `moof`, but plays one that ends inside the media.
pub const FRAGMENT_FRAMES_MAX: usize = 200;
/// Fragments of one recorder that may wait for the disk. When one more is cut it is dropped, with everything up to the
/// next key frame, and the gap is reported.
pub const FRAGMENTS_IN_FLIGHT_MAX: usize = 4;
/// Bytes of one recorder that may wait for the disk; reached like [`FRAGMENTS_IN_FLIGHT_MAX`].
pub const FRAGMENT_BYTES_IN_FLIGHT_MAX: usize = 32 << 20;
/// Tracks in one recording. Frames of a further track are left out and counted.
pub const RECORDING_TRACKS_MAX: usize = 8;
/// How long a recording waits for pictures that were announced, before it goes on with the sound alone.
pub const RECORDING_VIDEO_WAIT: Duration = Duration::from_secs(5);
/// Names that a recorder tries when the file it wants exists already. After the last it takes the disk as failed.
pub const RECORDING_NAMES_MAX: u32 = 100;
/// First pause of a recorder after its disk failed; each further failure doubles it up to [`RECORDING_RETRY_MAX`].
pub const RECORDING_RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest pause of a recorder after its disk failed.
pub const RECORDING_RETRY_MAX: Duration = Duration::from_secs(30);
/// Bytes of a `moov` or `moof` box that a reader takes into memory. A larger one ends what can be read of the file.
pub const MP4_HEAD_BYTES_MAX: usize = 4 << 20;
/// Samples in one fragment that a reader lists. A fragment that says it has more ends what can be read of the file.
pub const MP4_SAMPLES_MAX: usize = 1 << 16;
/// Frames of a stream that are looked at, at most, before it is settled how it is packaged.
pub const HLS_LEARN_FRAMES_MAX: usize = 4096;
/// Packets of sound that wait for the picture that ends their segment. One more ends it without the picture.
pub const HLS_HELD_FRAMES_MAX: usize = 512;
/// Requests of one stream that may wait on one core for something that is not there yet. One more is answered 503.
pub const HELD_REQUESTS_MAX: usize = 50_000;
/// How long a request may wait for something that is not there yet: longer than the longest segment. Then it is answered 503.
pub const HELD_REQUEST_TIME_MAX: Duration = Duration::from_secs(15);
/// How far a publisher's clock may step back before it counts as a jump and the timeline is joined anew. Equal and
/// slightly older times come from real encoders and pass as they are.
pub const CLOCK_STEP_BACK_MAX: Duration = Duration::from_secs(2);
/// How far a publisher's clock may step forward before it counts as a jump.
pub const CLOCK_STEP_FORWARD_MAX: Duration = Duration::from_secs(60);
/// Length of a group of a stream without video, where any packet is an entrance.
pub const AUDIO_GROUP_DURATION: Duration = Duration::from_secs(1);
/// How long a core keeps its copy of a stream after its last viewer left, so that a reload of a page costs nothing.
pub const REPLICA_LINGER: Duration = Duration::from_secs(5);
/// Frames in one message between cores. A batch never holds more; the next message takes the rest.
pub const BATCH_FRAMES_MAX: usize = 256;
/// A slab: what many frames, or many blocks of a wire log, share. Each publisher and each log holds one that is not full.
pub const SLAB_BYTES: usize = 128 << 10;
/// The largest piece of a slab; what is larger has memory of its own. What a slab cannot use at its end is less than this.
pub const SLAB_PIECE_BYTES_MAX: usize = 32 << 10;
const _: () = assert!(SLAB_PIECE_BYTES_MAX * 4 <= SLAB_BYTES);
/// The least room for a publisher's next bytes, where they are received into a slab of its own. What is left of a slab at its
/// end is less than this.
pub const RECEIVE_BYTES_MIN: usize = 16 << 10;
const _: () = assert!(RECEIVE_BYTES_MIN * 4 <= SLAB_BYTES);
/// Messages in the lane between two cores. A full lane makes the replica late until the next key frame.
pub const LANE_SLOTS: usize = 1024;
const _: () = assert!(LANE_SLOTS.is_power_of_two());
/// Slots of a lane that datagrams leave to everything else. When no more are free they wait, up to one message of them; what
/// comes then is dropped and counted, as UDP does.
pub const LANE_SLOTS_KEPT: usize = LANE_SLOTS / 2;
/// Words that may wait for room in a full lane. Past it a viewer of a stream of that core is refused; what ends something
/// always finds room, for there is one end to each beginning.
pub const BACKLOG_MESSAGES_MAX: usize = 4096;
/// How long a viewer waits, whatever its app says, for a stream that is fetched when somebody wants it. One that has not come by
/// then is refused.
pub const ON_DEMAND_TIME_MAX: Duration = Duration::from_secs(10);
const _: () = assert!(FRAGMENT_CUT_AFTER.as_millis() < FRAGMENT_DURATION_MAX.as_millis());
const _: () = assert!(FRAGMENT_KEY_SPACING_MIN.as_millis() < FRAGMENT_CUT_AFTER.as_millis());
// The largest frame fits, or a stream with large key frames would never be recorded.
const _: () = assert!(FRAGMENT_BYTES_IN_FLIGHT_MAX > FRAGMENT_BYTES_CUT + RTMP_MESSAGE_BYTES_MAX);
const _: () = assert!(FRAGMENT_FRAMES_MAX <= MP4_SAMPLES_MAX);
const _: () = assert!(RTMP_PARTIAL_BYTES_MAX > RTMP_MESSAGE_BYTES_MAX);
const _: () = assert!(HTTP_TARGET_BYTES_MAX < HTTP_HEAD_BYTES_MAX);

/// What one stream may hold and how its viewers are treated; per app from the config.
///
/// ```
/// use std::time::Duration;
/// use shardcast_engine::limits::StreamLimits;
///
/// // Every frame at once, and a publisher that comes back within a minute goes on.
/// let limits = StreamLimits {
///     flush: Duration::ZERO,
///     reconnect_window: Duration::from_secs(60),
///     ..StreamLimits::default()
/// };
/// assert_eq!(limits.group_bytes, 32 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Frames kept since the last key frame. A group that outgrows this is let go whole.
    pub group_frames: usize,
    /// Bytes kept since the last key frame.
    pub group_bytes: usize,
    /// Time kept since the last key frame.
    pub group_duration: Duration,
    /// How often what was muxed is sent on. Zero sends every frame at once.
    pub flush: Duration,
    /// A viewer that is further behind than this jumps to the newest key frame.
    pub viewer_lag: Duration,
    /// A viewer that takes no byte for this long is closed.
    pub viewer_stall: Duration,
    /// How long a stream waits for its publisher to come back.
    pub reconnect_window: Duration,
    /// A publisher that sends no frame for this long is closed.
    pub publisher_idle: Duration,
    /// How long a viewer may wait for a name nobody publishes; zero refuses at once.
    pub wait_for_publisher: Duration,
    /// A second publisher takes the name from the first instead of being refused.
    pub takeover: bool,
    /// Viewers of one stream on one core. One more is refused.
    pub viewers: usize,
    /// Streams of one app on the whole node, of which each core admits its share. A publisher of one more is refused.
    pub streams: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        StreamLimits {
            group_frames: 4096,
            group_bytes: 32 << 20,
            group_duration: Duration::from_secs(30),
            flush: Duration::from_millis(40),
            viewer_lag: Duration::from_secs(3),
            viewer_stall: Duration::from_secs(30),
            reconnect_window: Duration::from_secs(10),
            publisher_idle: Duration::from_secs(30),
            wait_for_publisher: Duration::ZERO,
            takeover: false,
            viewers: 100_000,
            streams: 10_000,
        }
    }
}

/// What the doors let in; from the config, the same for every door.
///
/// ```
/// use std::time::Duration;
/// use shardcast_engine::limits::DoorLimits;
///
/// let limits = DoorLimits {
///     connections_per_address: 50,
///     verdict: Duration::from_secs(1),
///     ..DoorLimits::default()
/// };
/// assert_eq!(limits.connections, 100_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorLimits {
    /// Connections per door, all cores together. The next one is closed at once, with a counter.
    pub connections: usize,
    /// Connections per address and door.
    pub connections_per_address: usize,
    /// Time from accept until the peer has said what it wants.
    pub handshake: Duration,
    /// Time without a byte from a peer that neither publishes nor plays.
    pub idle: Duration,
    /// Streams on the whole node. A publisher of one more is refused.
    pub streams: usize,
    /// How long an authenticator that asks elsewhere may take. A wish without an answer by then is refused.
    pub verdict: Duration,
    /// What nobody else knows, for what must not be guessed: cookies, nonces, keys. The engine has no chance of its own; without
    /// one from the driver all of it can be guessed.
    pub secret: Secret,
    /// What an operator has chosen for SRT.
    pub srt: Arc<SrtSettings>,
    /// What an operator has chosen for WebRTC.
    pub webrtc: Arc<WebrtcSettings>,
}

/// What an operator may choose for WebRTC.
///
/// ```
/// use shardcast_engine::limits::WebrtcSettings;
///
/// let behind_nat = WebrtcSettings { public: vec!["203.0.113.7".parse()?], ..WebrtcSettings::default() };
/// assert!(WebrtcSettings::default().public.is_empty() && !behind_nat.public.is_empty());
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebrtcSettings {
    /// The addresses at which peers reach this machine, where they are others than its own. Said in each answer.
    pub public: Vec<IpAddr>,
    /// Sound that browsers have no decoder for is made Opus for them: somebody publishes the
    /// [rendition](crate::media::StreamName::rendition) of a stream while it is watched.
    pub converts: bool,
    /// Pictures that are sent in another order than they are shown in are coded anew for them, likewise.
    pub transcodes: bool,
}

/// Random bytes that stay inside the process.
///
/// ```
/// use shardcast_engine::limits::Secret;
///
/// assert_eq!(format!("{:?}", Secret([7; 32])), "Secret");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Default for DoorLimits {
    fn default() -> Self {
        DoorLimits {
            connections: 100_000,
            connections_per_address: 10_000,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            streams: 10_000,
            verdict: Duration::from_secs(5),
            secret: Secret::default(),
            srt: Arc::default(),
            webrtc: Arc::default(),
        }
    }
}
