"""Picture files as cameras, editors and browsers write them, and the pixels that Pillow makes of each: upright, over white."""

import io
import json
import shutil
import struct
import zlib

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from safetensors.torch import save_file


def smooth(rng, height, width, channels):
    coarse = rng.integers(0, 256, (max(height // 7, 2), max(width // 7, 2), channels), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(coarse[..., i]).resize((width, height), Image.BILINEAR))
                     for i in range(channels)], -1)


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png_of_16_bits(values, colour_type):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
            + chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def png_text(**texts):
    info = PngImagePlugin.PngInfo()
    for key, value in texts.items():
        info.add_itxt("XML:com.adobe.xmp", value) if key == "xmp" else info.add_text("Raw profile type exif", value, zip=True)
    return info


def turned(rgb):
    """Every orientation, also three that are none, in every place that can hold one."""
    for orientation in [*range(10), 65535]:
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"exif{orientation}.png", encoded(rgb, "png", exif=exif)
        yield f"exif{orientation}.jpg", encoded(rgb, "jpeg", quality=90, exif=exif)
        yield f"exif{orientation}.webp", encoded(rgb, "webp", lossless=True, exif=exif)
        if 1 <= orientation <= 8:
            yield f"exif{orientation}.tif", encoded(rgb, "tiff", exif=exif)
        packet = f'<x tiff:Orientation="{orientation}"/>'
        yield f"xmp{orientation}.png", encoded(rgb, "png", pnginfo=png_text(xmp=packet))
        yield f"xmp{orientation}.webp", encoded(rgb, "webp", lossless=True, xmp=packet.encode())
        yield f"xmp{orientation}.jpg", encoded(rgb, "jpeg", xmp=f"<tiff:Orientation>{orientation}</tiff:Orientation>".encode())
        digits, length = exif.tobytes().hex(), len(exif.tobytes())
        lines = "\n".join(digits[i:i + 72] for i in range(0, len(digits), 72))
        yield f"profile{orientation}.png", encoded(rgb, "png", pnginfo=png_text(profile=f"\nexif\n{length:8}\n{lines}\n"))


def pngs(rng, rgb, rgba, grey):
    palette = rgb.quantize(17)
    yield "one.png", encoded(grey.convert("1"), "png")
    yield "grey.png", encoded(grey, "png")
    yield "grey-alpha.png", encoded(Image.merge("LA", (grey, rgba.getchannel(3))), "png")
    yield "rgba.png", encoded(rgba, "png")
    yield "palette.png", encoded(palette, "png")
    yield "palette-one.png", encoded(palette, "png", transparency=3)
    yield "palette-alpha.png", encoded(palette, "png", transparency=bytes(range(0, 170, 10)))
    for bits in (1, 2, 4):
        yield f"palette{bits}.png", encoded(rgb.quantize(2**bits), "png", bits=bits)
    yield "key-rgb.png", encoded(rgb, "png", transparency=rgb.getpixel((3, 4)))
    yield "key-grey.png", encoded(grey, "png", transparency=grey.getpixel((3, 4)))
    yield "profile.png", encoded(rgb, "png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    yield "no-profile.png", encoded(rgb, "png", icc_profile=b"bytes that are no profile")
    for name, colour_type, channels in (("rgb16.png", 2, 3), ("rgba16.png", 6, 4), ("grey-alpha16.png", 4, 2)):
        values = rng.integers(0, 65536, (9, 11, channels))
        if channels % 2 == 0:
            values[..., -1] = 65535
        yield name, png_of_16_bits(values, colour_type)
    yield "animated.png", encoded(rgb, "png", save_all=True, append_images=[ImageOps.invert(rgb)])


def jpegs(rgb, grey):
    yield "grey.jpg", encoded(grey, "jpeg")
    yield "progressive.jpg", encoded(rgb, "jpeg", progressive=True)
    yield "inks.jpg", encoded(rgb.convert("CMYK"), "jpeg")
    yield "rgb.jpg", encoded(rgb, "jpeg", keep_rgb=True)
    yield "restarts.jpg", encoded(rgb, "jpeg", restart_marker_blocks=2)
    yield "profile.jpg", encoded(rgb, "jpeg", icc_profile=b"x" * 70000)
    for sampling in range(3):
        yield f"sampling{sampling}.jpg", encoded(rgb, "jpeg", quality=80, subsampling=sampling)
    plain = encoded(rgb, "jpeg")
    scan = plain.index(b"\xff\xda")
    yield "stray-before.jpg", plain[:scan] + b"\0\0\0\0\0" + plain[scan:]
    yield "stray-after.jpg", plain[:-2] + b"x" * 37 + plain[-2:]
    yield "fill.jpg", plain[:scan] + b"\xff\xff\xff" + plain[scan:]
    yield "trailer.jpg", plain + b"something else" * 100
    yield "jpeg-named.png", plain


def others(rgb, rgba, grey):
    yield "lossy.webp", encoded(rgb, "webp")
    yield "alpha.webp", encoded(rgba, "webp", lossless=True, exact=True)
    yield "lossy-alpha.webp", encoded(rgba, "webp")
    yield "animated.webp", encoded(rgb, "webp", lossless=True, save_all=True, append_images=[ImageOps.invert(rgb)])
    palette = rgb.quantize(30)
    plain, clear = encoded(palette, "gif"), encoded(palette, "gif", transparency=4)
    yield "palette.gif", plain
    yield "clear.gif", clear
    yield "interlaced.gif", encoded(palette, "gif", interlace=1)
    yield "grey.gif", encoded(grey, "gif")
    yield "animated.gif", encoded(palette, "gif", save_all=True, append_images=[ImageOps.invert(rgb).quantize(30)])
    frame = plain.index(b",\0\0\0\0")
    yield "over-the-edge.gif", plain[:frame + 1] + b"\5\0\3\0" + plain[frame + 5:]
    yield "canvas.gif", plain[:6] + b"\x3c\0\x28\0" + plain[10:]
    yield "clear-canvas.gif", clear[:6] + b"\x3c\0\x28\0" + clear[10:]
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"):
        yield f"{compression}.tif", encoded(rgb, "tiff", compression=compression)
    yield "fax.tif", encoded(grey.convert("1"), "tiff", compression="group4")
    yield "inks.tif", encoded(rgb.convert("CMYK"), "tiff")
    yield "rgba.tif", encoded(rgba, "tiff")
    yield "grey-alpha.tif", encoded(Image.merge("LA", (grey, rgba.getchannel(3))), "tiff")
    yield "palette.tif", encoded(palette, "tiff")
    yield "grey.tif", encoded(grey, "tiff")
    yield "one.tif", encoded(grey.convert("1"), "tiff")
    yield "ycbcr.tif", encoded(rgb.convert("YCbCr"), "tiff")
    yield "pages.tif", encoded(rgb, "tiff", save_all=True, append_images=[grey])
    yield "big.tif", encoded(rgb, "tiff", big_tiff=True)


def as_looked_at(path):
    picture = ImageOps.exif_transpose(Image.open(path))
    if not picture.has_transparency_data:
        return np.array(picture.convert("RGB"))
    rgba = picture.convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))


def write(repository, out):
    folder = out / "picture_files"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(401)
    rgb, rgba = Image.fromarray(smooth(rng, 30, 47, 3)), Image.fromarray(smooth(rng, 30, 47, 4), "RGBA")
    grey = Image.fromarray(smooth(rng, 30, 47, 1)[..., 0])
    arrays = {}
    for files in (turned(rgb), pngs(rng, rgb, rgba, grey), jpegs(rgb, grey), others(rgb, rgba, grey)):
        for name, data in files:
            (folder / name).write_bytes(data)
            arrays[name] = torch.from_numpy(as_looked_at(folder / name).copy())
    save_file(arrays, out / "picture_files.safetensors")
    (out / "picture_files.json").write_text(json.dumps(sorted(arrays)))
