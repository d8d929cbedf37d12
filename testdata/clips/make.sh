#!/usr/bin/env bash
# Makes the clips of this folder, and what ffmpeg decodes from them. Needs ffmpeg 5.1 with libx264, libx265 and libvpx.
# The files in the repository were made by ffmpeg 5.1.9 on x86-64; other versions give other bytes, which is no fault.
set -euo pipefail
cd "$(dirname "$0")"
rm -f -- *.mp4 *.mkv *.webm *.framecrc *.png
ff() { ffmpeg -v error -y -bitexact "$@"; }
source=(-f lavfi -i testsrc2=s=64x48:r=25)
x264=(-c:v libx264 -pix_fmt yuv420p -threads 1)

# A long group of pictures with B-frames, for seeking; the same trimmed without decoding (an edit list hides pictures),
# and in fragments.
ff "${source[@]}" -frames:v 150 "${x264[@]}" -bf 3 -g 60 -crf 30 h264_bframes.mp4
ff -i h264_bframes.mp4 -ss 1.3 -c copy -avoid_negative_ts disabled h264_edit_list.mp4
ff -i h264_bframes.mp4 -t 2 -c copy -movflags frag_keyframe+empty_moov h264_fragments.mp4
# Pictures that are shown before the key frame after which they are decoded.
ff "${source[@]}" -frames:v 70 "${x264[@]}" -x264-params open-gop=1:keyint=30:bframes=3 -crf 30 h264_open_gop.mp4
# Composition offsets below zero, in fragments and without.
ff -i h264_bframes.mp4 -t 1 -c copy -movflags cmaf h264_cmaf.mp4
ff -i h264_bframes.mp4 -t 1 -c copy -movflags +negative_cts_offsets h264_negative_offsets.mp4
# Cut without decoding at the key frame of an open group: pictures at the start refer to others that are not there.
ff "${source[@]}" -frames:v 60 "${x264[@]}" -x264-params open-gop=1:keyint=20:bframes=4:b-pyramid=normal:scenecut=0 -crf 30 open.mp4
ff -ss 0.9 -i open.mp4 -c copy -use_editlist 0 h264_open_cut.mp4
ff -ss 0.9 -i open.mp4 -c copy -movflags cmaf h264_open_cut_fragments.mp4
ff "${source[@]}" -frames:v 60 -c:v libx265 -x265-params log-level=none:open-gop=1:keyint=20:bframes=4:scenecut=0:pools=none:frame-threads=1 \
  -crf 32 -pix_fmt yuv420p open.mp4
ff -ss 0.9 -i open.mp4 -c copy -use_editlist 0 hevc_open_cut.mp4
ff -ss 0.9 -i open.mp4 -c copy hevc_open_cut_matroska.mkv
rm open.mp4
# 50 x 38: the coded size is 64 x 48, the rest is cropped.
ff -f lavfi -i testsrc2=s=50x38:r=25 -frames:v 12 "${x264[@]}" -crf 24 h264_cropped.mp4
ff "${source[@]}" -frames:v 12 "${x264[@]}" -crf 28 upright.mp4
# (This ffmpeg counts the tag counter-clockwise.)
for degrees in 90 180 270; do ff -i upright.mp4 -c copy -metadata:s:v:0 rotate=$((360 - degrees)) "rotated_$degrees.mp4"; done
rm upright.mp4
# 10 frames at 25 per second, then 10 at a third of that.
ff "${source[@]}" -vf "setpts='if(lt(N,10),N,10+(N-10)*3)/(25*TB)'" -frames:v 20 -fps_mode vfr "${x264[@]}" -crf 28 variable_rate.mp4
# Colours: BT.709 full range; BT.601 by silence, although it is HD.
ff "${source[@]}" -frames:v 8 -vf scale=out_color_matrix=bt709:out_range=pc -c:v libx264 -pix_fmt yuvj420p -threads 1 -crf 24 \
  -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range pc bt709_full_range.mp4
ff -f lavfi -i testsrc=s=1280x720:r=25 -frames:v 1 "${x264[@]}" -crf 40 unspecified_720.mp4
# Other codecs and containers.
ff "${source[@]}" -frames:v 70 "${x264[@]}" -bf 3 -g 30 -crf 30 h264.mkv
ff "${source[@]}" -frames:v 40 -c:v libx265 -x265-params log-level=none:keyint=20:pools=none:frame-threads=1 -crf 32 -pix_fmt yuv420p hevc.mp4
ff "${source[@]}" -frames:v 10 -c:v libx265 -x265-params log-level=none:pools=none:frame-threads=1 -crf 32 -pix_fmt yuv420p10le hevc_10_bit.mp4
ff "${source[@]}" -frames:v 30 -c:v libvpx-vp9 -b:v 50k -auto-alt-ref 1 -lag-in-frames 16 -threads 1 -pix_fmt yuv420p vp9.webm
ff -f lavfi -i testsrc=s=51x37:r=25 -frames:v 12 -c:v libvpx-vp9 -crf 40 -b:v 0 -threads 1 -pix_fmt yuv420p vp9_odd_size.webm

# What ffmpeg makes of them: a checksum of each RGB frame ...
for clip in *.mp4 *.mkv *.webm; do
  case $clip in
    # ... and, where swscale's arithmetic is followed only within a few levels, one frame as it is.
    hevc_10_bit.mp4 | vp9_odd_size.webm) ff -i "$clip" -vf 'select=eq(n\,7)' -frames:v 1 -pix_fmt rgb24 "$clip.frame7.png" ;;
    *) ff -i "$clip" -fps_mode passthrough -pix_fmt rgb24 -f framecrc "$clip.framecrc" ;;
  esac
done

# Cut off behind the index: the first frames are whole.
ff "${source[@]}" -frames:v 30 "${x264[@]}" -crf 28 -movflags +faststart whole.mp4
head -c 3000 whole.mp4 > truncated.mp4
# Cut off before the index.
head -c 4000 h264_bframes.mp4 > truncated_without_index.mp4
head -c 3000 h264.mkv > truncated.mkv
rm whole.mp4
