//! Pictures of one size and format made into pictures of another, in the thread that asks.

use crate::picture::stamp;
use anyhow::Context as _;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video::{
    VideoBufferPool, VideoColorMatrix, VideoColorimetry, VideoConverter, VideoConverterConfig,
    VideoFormat, VideoFrameRef, VideoInfo, VideoResamplerMethod,
};

/// Pictures that are on their way at once: two wait, one is encoded, and encoders with threads of
/// their own hold a few.
const PICTURES_MAX: u32 = 8;

/// Makes one kind of picture into another.
pub(crate) struct Scaler {
    from: VideoInfo,
    to: VideoInfo,
    /// `None` where they are the same.
    converter: Option<(VideoConverter, gst::BufferPool)>,
}

impl Scaler {
    /// From pictures like this to pictures of that format and size.
    pub(crate) fn new(
        from: &VideoInfo,
        format: VideoFormat,
        size: (u32, u32),
    ) -> anyhow::Result<Self> {
        Self::to_colors(from, format, size, &colorimetry(from))
    }

    /// The same with other colours than theirs.
    pub(crate) fn to_colors(
        from: &VideoInfo,
        format: VideoFormat,
        (width, height): (u32, u32),
        colors: &VideoColorimetry,
    ) -> anyhow::Result<Self> {
        let source = progressive(from, from.format(), (from.width(), from.height()))
            .colorimetry(&from.colorimetry())
            .build()?;
        let target = progressive(from, format, (width, height))
            .colorimetry(colors)
            .par(pixel_aspect(from, (width, height)))
            .build()?;
        let is_same = format == from.format()
            && (width, height) == (from.width(), from.height())
            && *colors == from.colorimetry();
        let converter =
            if is_same { None } else { Some((converter(&source, &target)?, pool(&target)?)) };
        Ok(Self { from: source, to: target, converter })
    }

    /// What its pictures are.
    pub(crate) const fn info(&self) -> &VideoInfo {
        &self.to
    }

    /// The picture, made anew; `None` while too many are on their way.
    pub(crate) fn scale(&self, picture: &gst::Buffer) -> anyhow::Result<Option<gst::Buffer>> {
        let Some((converter, pool)) = &self.converter else { return Ok(Some(picture.clone())) };
        let flags = gst::BufferPoolAcquireFlags::DONTWAIT;
        let params = gst::BufferPoolAcquireParams::with_flags(flags);
        let mut scaled = match pool.acquire_buffer(Some(&params)) {
            Ok(scaled) => scaled,
            Err(gst::FlowError::Eos) => return Ok(None),
            Err(error) => return Err(error).context("a pool of pictures"),
        };
        let buffer = scaled.get_mut().context("a picture of a pool that has two owners")?;
        let source = VideoFrameRef::from_buffer_ref_readable(picture, &self.from)?;
        let mut target = VideoFrameRef::from_buffer_ref_writable(buffer, &self.to)?;
        converter.frame_ref(&source, &mut target);
        drop(target);
        if let Some(ticks) = stamp::ticks(picture) {
            stamp::stamp(buffer, ticks);
        }
        Ok(Some(scaled))
    }
}

/// Interlaced pictures are taken for whole ones: browsers do the same.
fn progressive<'a>(
    like: &VideoInfo,
    format: VideoFormat,
    (width, height): (u32, u32),
) -> gstreamer_video::VideoInfoBuilder<'a> {
    VideoInfo::builder(format, width, height).chroma_site(like.chroma_site())
}

/// Colours stay what they are; those of RGB become what HD has.
fn colorimetry(from: &VideoInfo) -> VideoColorimetry {
    let colors = from.colorimetry();
    if colors.matrix() == VideoColorMatrix::Rgb {
        "bt709".parse().unwrap_or(colors)
    } else {
        colors
    }
}

/// The shape of the pixels of a picture that is made of another one. Square ones stay so: sizes are
/// even, and a pixel more or less is no distortion.
fn pixel_aspect(from: &VideoInfo, (width, height): (u32, u32)) -> gst::Fraction {
    let par = from.par();
    if par.numer() == par.denom() {
        return par;
    }
    let side = |side: u32| side.min(1 << 14).cast_signed();
    par * gst::Fraction::new(side(from.width()), side(width).max(1))
        * gst::Fraction::new(side(height), side(from.height()).max(1))
}

fn converter(from: &VideoInfo, to: &VideoInfo) -> anyhow::Result<VideoConverter> {
    let mut config = VideoConverterConfig::new();
    config.set_resampler_method(VideoResamplerMethod::Linear);
    config.set_threads(1);
    VideoConverter::new(from, to, Some(config)).context("pictures that cannot be converted")
}

fn pool(info: &VideoInfo) -> anyhow::Result<gst::BufferPool> {
    let pool = VideoBufferPool::new();
    let mut config = pool.config();
    let size = u32::try_from(info.size()).context("a picture of 4 GiB")?;
    config.set_params(Some(&info.to_caps()?), size, 0, PICTURES_MAX);
    pool.set_config(config).context("a pool of pictures")?;
    pool.set_active(true).context("a pool of pictures")?;
    Ok(pool.upcast())
}

impl Drop for Scaler {
    fn drop(&mut self) {
        if let Some((_, pool)) = &self.converter {
            // What is on its way is freed when it comes back.
            let _ = pool.set_active(false);
        }
    }
}
