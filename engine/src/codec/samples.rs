//! What real encoders wrote, for the tests of this folder. Each comment names the command (ffmpeg 5.1 of Debian 12, its
//! `-f lavfi -i` sources shortened to their names), and the tests compare with what ffprobe said of the file.

/// Bytes from hexadecimal digits.
pub fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("samples are hexadecimal") as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

// avcC of `-c:v libx264`, from the MP4.
/// `testsrc2=s=1280x720:r=30 -g 30`
pub const H264_HIGH_720: &str = "\
    0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f183196001000668ebe3cb22c0fdf8f800";
/// `testsrc2=s=1920x1080:r=30000/1001 -preset ultrafast`
pub const H264_BASELINE_1080: &str = "\
    0142c028ffe100176742c028da01e0089f97011000003e90000ea600f1832a01000468ce0fc8";
/// `testsrc2=s=322x242:r=25 -profile:v high444 -pix_fmt yuv444p -vf setsar=4/3`
pub const H264_444_SAR: &str = "\
    01f4000dffe1001a67f4000d919b282a10f1f1f870800000030080000019078a14cb01000668ebe3c44844fff8f800";
/// `testsrc2=s=720x576:r=25 -flags +ilme+ildct -pix_fmt yuv420p`
pub const H264_576I: &str = "\
    0164001effe100186764001eacd940b424d8088000000300800000190f8a14cb01000668fba3cb22c0fdf8f800";
/// `testsrc2=s=320x240:r=25 -pix_fmt yuv422p10le -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc`
pub const H264_422_10_HDR: &str = "\
    017a000dffe1001d677a000db6cd94141fb016a12201280000030008000003019078a14cb001000668ebe3cb22c0fefa\
    fa00";

// Access units of `color=black:s=64x64:r=25 -c:v libx264 -x264-params keyint=2:bframes=0:scenecut=0 -bsf:v
// filter_units=remove_types=6`, from the MP4.
/// The first packet.
pub const H264_IDR: &str = "0000001f6588840bfffef6aefccb2b747e952e1d597b4b1b97b877ad283e01fe328081";
/// The second packet.
pub const H264_P: &str = "00000009419a3b10bffe8cd360";
/// The fourth access unit of the same source with `keyint=3:intra-refresh=1` and no filter, from the raw stream,
/// its start codes replaced by lengths: parameter sets, a recovery point message and a P picture.
pub const H264_REFRESH: &str = "\
    000000166764000aacb421360220000003002000000641e244d40000000568ef0f2c8b0000000506060171800000001a\
    419a66217fc16bb3c39965a438cf3faa9f6333842ee45aff0370";

// hvcC of `-c:v libx265 -x265-params info=0`, from the MP4.
/// `testsrc2=s=1280x720:r=30`
pub const H265_MAIN_720: &str = "\
    0101600000009000000000005df000fcfdf8f800000f03a00001001840010c01ffff0160000003009000000300000300\
    5d959809a10001002b42010101600000030090000003000003005da00280802d165959a4932bc05a0200000300020000\
    03003c10a2000100074401c172b46240";
/// `testsrc2=s=1920x1080:r=60000/1001 -preset ultrafast -pix_fmt yuv420p10le -color_primaries bt2020 -color_trc
/// smpte2084 -colorspace bt2020nc`
pub const H265_MAIN10_1080_HDR: &str = "\
    0102200000009000000000007bf000fcfdfafa00000f03a00001001840010c01ffff0220000003009000000300000300\
    7b959409a10001002e42010102200000030090000003000003007ba003c0801107cad965654a4c2f016a122012080000\
    1f480007530040a2000100064401c073c189";
/// `testsrc2=s=322x242:r=25 -pix_fmt yuv444p -vf setsar=4/3 -x265-params scaling-list=default`
pub const H265_444_SAR: &str = "\
    0104080000009e08000000003cf000fcfff8f800000f03a00001001740010c01ffff0408000003009e0800000300003c\
    959809a10001002b4201010408000003009e0800000300003c90014901f39e7cb2b349272bc39a020000030002000003\
    003210a2000100084401c172860c4624";

// Access units of `color=black:s=64x64:r=25 -c:v libx265 -x265-params keyint=3:min-keyint=3:bframes=2:open-gop=1:info=0:scenecut=0`,
// from the MP4.
/// The first packet, IDR_N_LP.
pub const H265_IDR: &str = "0000000e2801af1d80f701b2fffd232fb33c";
/// The second, CRA of an open group.
pub const H265_CRA: &str = "000000102a01ac0cadc720f701b2fffd232fb33c";
/// The third, a leading picture.
pub const H265_RASL: &str = "0000000a1201e04497e18590c6a0";
/// The last, a trailing picture.
pub const H265_TRAIL: &str = "0000000a0201d0397e10c639fa84";

// All access units of `color=black:s=64x64:r=25 -frames:v 14`, from the MP4: when each is shown, and its bytes. x264 with -bsf:v
// filter_units=remove_types=6.
/// `-c:v libx264 -x264-params keyint=12:b-adapt=0:bframes=3:scenecut=0`: others refer to a B picture.
pub const X264_B_REFERRED: &[(i64, &str)] = &[
    (0, "00000020658884003bfffef74ebf029b54c22a0392570aea83ba0ad8a74f2a6d068dfbb9"),
    (4, "0000000a419a246c437ffea78f88"),
    (2, "00000008419e427885ff09b9"),
    (1, "00000008019e617442bf0c38"),
    (3, "00000008019e636a42bf0c39"),
    (8, "00000010419a6849a84168994c086ffffea78f89"),
    (6, "0000000a419e8645112c2fff09b9"),
    (5, "00000008019ea57442bf0c39"),
    (7, "00000008019ea76a42bf0c38"),
    (11, "00000010419aab49a8416c994c0857fffe388dc0"),
    (9, "0000000a419ec945152c2bff0c39"),
    (10, "00000008019eea6a42bf0c38"),
    (12, "00000020658882000efffef74ebf029b54c22a0392570aea83ba0ad8a74f2a6d068dfbb8"),
    (13, "0000000a419a216c42bffe388dc1"),
];
/// Its configuration.
pub const X264_B_REFERRED_CONFIGURATION: &str = "\
    0164000affe100186764000aacd94426c044000003000400000300c83c48965801000668ebe3cb22c0fdf8f800";
/// `-c:v libx264 -x264-params keyint=12:b-adapt=0:bframes=2:b-pyramid=none:scenecut=0`: none does.
pub const X264_B_ALONE: &[(i64, &str)] = &[
    (0, "00000020658884006ffffef6f0fe05365604509711cde87cfd0005576bdae1e22fff5461"),
    (3, "0000000a419a26d886fffea78f88"),
    (1, "00000008019e42f215ff0c39"),
    (2, "00000008019e44f215ff0c38"),
    (6, "0000000e419a4c78432653086ffffea78f89"),
    (4, "00000008019e68d4857f0c39"),
    (5, "00000008019e6ad4857f0c39"),
    (9, "0000000f419a7293c21e4ca60433fffe9e2df1"),
    (7, "00000008019e8ed4857f0c38"),
    (8, "00000008019e90d4857f0c38"),
    (11, "0000000f419a9693c21e4ca6042bfffe388dc1"),
    (10, "00000008019eb4d4857f0c38"),
    (12, "00000020658882001dfffef74ebf029b54c22a0392570aea83ba0ad8a74f2a6d068dfbb8"),
    (13, "0000000a419a22d8857ffe388dc1"),
];
/// Its configuration.
pub const X264_B_ALONE_CONFIGURATION: &str = "\
    0164000affe100186764000aacd10426c044000003000400000300c83c48944801000668ebe3cb22c0fdf8f800";
/// `-c:v libx265 -x265-params keyint=12:min-keyint=12:b-adapt=0:bframes=3:info=0:scenecut=0`: others refer to a B picture.
pub const X265_B_REFERRED: &[(i64, &str)] = &[
    (0, "0000000e2801af1d80f70209fffd72a3eccf"),
    (4, "0000000c0201d02149e10c63b0fd8430"),
    (2, "0000000a0201e04495786124c560"),
    (1, "0000000b0001e024fd7e8b0a60c820"),
    (3, "0000000b0001e066b5fd461440c820"),
    (8, "0000000e0201d04092557dc43018e4fd8430"),
    (6, "0000000c0201e0c225555f7184b0e783"),
    (5, "0000000c0001e0a6f5d7d22c2880e733"),
    (7, "0000000b0001e0e22d57f71851e733"),
    (12, "000000122a01ac30590889c620f702827ffb7eff7543"),
    (10, "0000000c1201e142255257dc6124e783"),
    (9, "0000000c1001e126f5d7d22c2980e733"),
    (11, "0000000b1001e1622d57f71853e733"),
    (13, "0000000a0201d0697e10c639fa84"),
];
/// Its configuration.
pub const X265_B_REFERRED_CONFIGURATION: &str = "\
    0101600000009000000000001ef000fcfdf8f800000f03200001001840010c01ffff0160000003009000000300000300\
    1e959409210001002842010101600000030090000003000003001ea020810596565924caf0168080000003008000000c\
    8422000100074401c172b42240";
/// `-c:v libx265 -x265-params keyint=12:min-keyint=12:b-adapt=0:bframes=2:b-pyramid=0:info=0:scenecut=0:open-gop=1`: none
/// does.
pub const X265_B_ALONE: &[(i64, &str)] = &[
    (0, "0000000e2801af1d80f70209fffd72a3eccf"),
    (3, "0000000c0201d0195f84318e40fd8430"),
    (1, "0000000a0001e024b5e18530c820"),
    (2, "0000000a0001e04497e18510c820"),
    (6, "0000000d0201d031ddfd443063b0fd8430"),
    (4, "0000000b0001e086b75f518530e733"),
    (5, "0000000b0001e0a695ff518510e733"),
    (9, "0000000e0201d0489777f710c063b0fd8430"),
    (7, "0000000b0001e0e6b75f518510e733"),
    (8, "0000000b0001e10695ff518510e733"),
    (12, "000000112a01ac304b337188f702827ffb7eff7543"),
    (10, "0000000b1001e146b75f518510e733"),
    (11, "0000000b1001e16695ff518530e733"),
    (13, "0000000a0201d0697e10c639fa84"),
];
/// Its configuration.
pub const X265_B_ALONE_CONFIGURATION: &str = "\
    0101600000009000000000001ef000fcfdf8f800000f03200001001840010c01ffff0160000003009000000300000300\
    1e911009210001002842010101600000030090000003000003001ea020810596444924caf0168080000003008000000c\
    8422000100074401c172b42240";

// The record in vvcC of `-c:v libvvenc -preset faster -qp 37` (ffmpeg 9.0), from the MP4.
/// `testsrc2=s=322x242:r=25`
pub const H266_MAIN10_242: &str = "\
    ff00655f010220800000014800f80000028f00010096007900ab02208000008029203e72486a00737ffac21365630408\
    270032831610860c442064883521e8f56a4bc926a4b2445a88bc449a88914911264889351964842d4217842f56a4bc97\
    a865062c4031620204204040a8408081a4204040b1020204410102c820204840419020442040b2102048810682049041\
    c20c81168412421c43425c8e54330467140000030004000003006462900001000b0081000014901f22241f41";
/// `testsrc2=s=1920x1080:r=60000/1001 -qp 50 -tier high -level 6.1 -color_primaries bt2020 -color_trc smpte2084
/// -colorspace bt2020nc`
pub const H266_MAIN10_1080_HDR: &str = "\
    ff00655f010363800000078004380000028f000100f5007900ab0363800000800f02004391a801cdffeb084d958c1020\
    9c004c404104108184210b110859210b5085e8f56a4bc926a4b2445a88bc449a88914911264889351962210b24216a10\
    bc2126a10914908499210975242121222109144421262210975110848a32109319084ba8c8428105842080c442064883\
    520133041041610020b100808408040542040203484080405881008088201016410080908040c8080884040590808091\
    0103408092040e08188042c81022102059081024408341024820e106408b4209210e21a12e472a041610020b10080840\
    80405420402043304671400000fa40003a980698bc050202092040900001000d0081000007810021c88907d040";

// Access units of `color=black:s=64x64:r=25 -c:v libvvenc -preset faster -vvenc-params
// intraperiod=16:refreshsec=0:gopsize=16:decodingrefreshtype=cra -bsf:v filter_units=remove_types=15-16`, from the MP4;
// each begins with an access unit delimiter.
/// The first packet, IDR_W_RADL.
pub const H266_IDR: &str = "0000000300a1880000000f0039c43cc0da5ef13ffffff3030e0f";
/// The second, a leading picture that can be decoded after it.
pub const H266_RADL: &str = "0000000300a2280000000c0012941dd10821005d2f56c8";
/// The seventeenth, CRA of an open group.
pub const H266_CRA: &str = "0000000300a188000000100049c47cc61b4bc0f13ffffff3030e0f";
/// The eighteenth, a leading picture that cannot be decoded when one begins with the CRA.
pub const H266_RASL: &str = "0000000300a2280000000c001a945dd10821005d2f56c8";
/// The thirty-third, a trailing picture.
pub const H266_TRAIL: &str = "0000000300a3280000000c000b948dd1128904d2f06478";
/// The first packet with `decodingrefreshtype=idr_no_radl`, IDR_N_LP.
pub const H266_IDR_N_LP: &str = "0000000300a1880000000f0041c400c0fa5ef36ce57fdc7c4904";

// av1C, from the MP4.
/// `testsrc2=s=320x180:r=25 -c:v libaom-av1 -cpu-used 8`
pub const AV1_MAIN_180: &str = "81000c000a0b000000043cfeccdaf90040";
/// `testsrc2=s=1280x720:r=30 -c:v libsvtav1 -preset 12 -pix_fmt yuv420p10le`
pub const AV1_MAIN_10_720: &str = "81054c000a0b0000002d4cffb3c02f8404";
/// `testsrc2=s=640x360:r=25 -c:v libaom-av1 -cpu-used 8 -pix_fmt yuv444p -color_primaries bt709 -color_trc bt709
/// -colorspace bt709`
pub const AV1_HIGH_444: &str = "812100000a0e2000000cc4ff6736be4808080880";

// Temporal units of `color=black:s=64x64:r=25 -c:v libaom-av1 -cpu-used 8 -g 2`, from the MP4.
/// The first packet: sequence header and key frame.
pub const AV1_KEY: &str = "0a0a00000002afff9b5f2008320e10009680000200000000ebc68ef0";
/// The second packet.
pub const AV1_INTER: &str = "321130038080000006c0000002800020009c50";

// vpcC, from the MP4.
/// `testsrc2=s=320x180:r=25 -c:v libvpx-vp9 -deadline realtime -cpu-used 8`
pub const VP9_180: &str = "01000000000b820202020000";
/// `testsrc2=s=640x360:r=25 -c:v libvpx-vp9 -pix_fmt yuv444p10le -color_primaries bt2020 -color_trc smpte2084
/// -colorspace bt2020nc`
pub const VP9_444_10_HDR: &str = "010000000315a60910090000";

// Frames of `color=black:s=64x64:r=25 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 2`, from the MP4.
/// The first packet.
pub const VP9_KEY: &str = "\
    824983420003f003f60638241c184a00002040006b43ffffe55dbdb7fd2b24857afbcdd3f2a0247212336e3f29a43494\
    20113051e36e010affffad70872ca76995da8e5c565d6969359d589b8ec980777a467a3ce53b4f9d972801382480";
/// The second packet.
pub const VP9_INTER: &str = "860040929c48500000037000005470";
/// The first bytes of the first packet of [`VP9_444_10_HDR`].
pub const VP9_KEY_444_10: &str = "b124c1a128013f80b3b031c120e0c2c0804f005fcdf7f3fcdf8bffe1f87fdbff";

// Frames of `color=black:s=64x64:r=25 -c:v libvpx -deadline realtime -cpu-used 8 -g 2`, from the IVF file.
/// The first packet.
pub const VP8_KEY: &str = "\
    f002009d012a4000400000470885858899848802020006703c42600ab220f73000feffab5080";
/// The second packet.
pub const VP8_INTER: &str = "3102000510ac00180019d7f40c00012c0600a600fef6b900";

// AudioSpecificConfigs of `-c:a aac`, from the MP4.
/// `sine=r=48000 -ac 2`
pub const AAC_LC_48000_STEREO: &str = "119056e500";
/// `sine=r=44100 -ac 1`
pub const AAC_LC_44100_MONO: &str = "120856e500";
/// `anullsrc=r=48000:cl=5.1`
pub const AAC_LC_51: &str = "11b056e500";
/// `anullsrc=r=48000:cl=7.1`
pub const AAC_LC_71: &str = "11b856e500";
/// `anullsrc=r=48000:cl=3.1`, which has no number and so a program config element.
pub const AAC_LC_31_BY_ELEMENTS: &str = "118004c8010020000d4c61766335392e33372e31303056e500";
/// `anullsrc=r=48000:cl=quad`, likewise.
pub const AAC_LC_QUAD_BY_ELEMENTS: &str = "118004c4040021100d4c61766335392e33372e31303056e500";
/// `sine=r=48000 -ac 2 -profile:a aac_ltp`
pub const AAC_LTP_48000_STEREO: &str = "219056e500";

// OpusHead of `-c:a libopus`, from the Matroska file.
/// `sine=r=48000 -ac 1`
pub const OPUS_MONO: &str = "4f707573486561640101380180bb0000000000";
/// `sine=r=48000 -ac 2`
pub const OPUS_STEREO: &str = "4f707573486561640102380180bb0000000000";
/// `anullsrc=r=48000:cl=5.1`
pub const OPUS_51: &str = "4f707573486561640106380180bb00000000010402000401020305";

// The first bytes of the first frame of `-c:a libmp3lame`.
/// `sine=r=48000 -ac 2 -b:a 128k`
pub const MP3_48000_STEREO: &str = "fffb940000000000";
/// `sine=r=22050 -ac 1`
pub const MP3_22050_MONO: &str = "fff370c000000000";

// The first bytes of the first frame of `-c:a ac3`, and dac3 from the MP4.
/// `sine=r=48000 -ac 2 -b:a 192k`
pub const AC3_48000_STEREO: &str = "0b77fe95144043e1";
/// The same.
pub const AC3_48000_STEREO_DAC3: &str = "101140";
/// `anullsrc=r=44100:cl=5.1 -b:a 448k`
pub const AC3_44100_51: &str = "0b770ad35e40ebf8";
