#!/usr/bin/env bash
# Further emoji styles for render-emoji, into data/styles/ (docs/data.md: sources and licences). The pictures are other people's: they are installed
# by who wants them and never committed. Needs npm and rsvg-convert (Debian: npm, librsvg2-bin); what is there already is left alone.
#   deploy/emoji-styles.sh [twemoji] [openmoji] [fluent]     all when none is named
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=$PWD/data/styles

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# unpack package version sha256 member…: into the current folder, as npm packs it.
unpack() {
  local package=$1 version=$2 sum=$3 file
  shift 3
  command -v npm >/dev/null || fail "npm is missing: apt-get install npm"
  file=$(npm pack --silent "$package@$version" | tail -n 1)
  echo "$sum  $file" | sha256sum --check --quiet || fail "$package $version is not the file that this script was written for"
  tar -xzf "$file" "$@"
}

# style name: unpacks it in an empty folder, and moves its pictures into place in one step.
style() {
  local work
  if [ -d "$OUT/$1" ]; then
    echo "  $1: there already"
    return
  fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' RETURN
  (cd "$work" && mkdir pictures && "$1")
  mkdir -p "$OUT"
  mv "$work/pictures" "$OUT/$1"
  echo "  $1: $(find "$OUT/$1" -type f | wc -l) pictures"
}

twemoji() {
  unpack emoji-datasource-twitter 16.0.0 f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877 package/img/twitter/64
  mv package/img/twitter/64/*.png pictures/
}

# Drawings as SVG, here brought to 128 pixels. Skin tones are not among the built-in list's emoji.
openmoji() {
  local svg name
  command -v rsvg-convert >/dev/null || fail "rsvg-convert is missing: apt-get install librsvg2-bin"
  unpack openmoji 17.0.0 55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68 package/color/svg
  for svg in package/color/svg/*.svg; do
    name=$(basename "$svg" .svg)
    case $name in *1F3F[B-F]*) continue ;; esac
    rsvg-convert -w 128 -h 128 "$svg" -o "pictures/$name.png"
  done
}

fluent() {
  unpack @lobehub/fluent-emoji-3d 1.1.0 c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58 package/assets
  mv package/assets/*.webp pictures/
}

for name in "${@:-twemoji openmoji fluent}"; do
  for one in $name; do
    case $one in
      twemoji | openmoji | fluent) style "$one" ;;
      *) fail "there is no style '$one'; expected twemoji, openmoji or fluent" ;;
    esac
  done
done
