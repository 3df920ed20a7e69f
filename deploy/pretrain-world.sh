#!/usr/bin/env bash
# Trains configs/bases/world-sd.yaml in a given time: measures what a step of each part costs on this machine, gives each part as many steps as its share of the time
# holds, and trains. The rates fall over a part's whole run, so the number of steps has to be known before.
#   deploy/pretrain-world.sh OUT SECONDS [DEVICE]
# OUT/base is the base; OUT/config.yaml says the numbers of steps. The same command goes on where it was, whatever ended it (then to the end, whatever the time).
# Autoencoder and CLIP run beside each other: on a GPU both wait for kernels to be started. docs/pretraining.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:?the folder to train in} seconds=${2:?how long} device=${3:-cuda:0}
worker=${LOUPE_WORKER:-build/release/bin/loupe-worker} config=${CONFIG:-configs/bases/world-sd.yaml} probe=${PROBE_STEPS:-60}
mkdir -p "$out"

say() {
  printf '[%d s] %s\n' "$SECONDS" "$*"
}

data() {
  local style
  [ -e data/world/.complete ] && return
  deploy/emoji-styles.sh
  for style in noto twemoji openmoji fluent; do
    "$worker" render-emoji --style "$style" --family all --styled --out "data/world/$style"
  done
  "$worker" render-photographs --family training --out data/world/photographs
  "$worker" render-photographs --family held-out --variations 4 --out data/world/photographs-held-out
  touch data/world/.complete
}

# with FROM "part.key=value…" "part…": the config with numbers changed, and without some parts.
with() {
  awk -v sets="$2" -v dropped="${3:-}" '
    BEGIN { n = split(sets, s, " "); for (i = 1; i <= n; i++) { split(s[i], kv, "="); to[kv[1]] = kv[2] }
            n = split(dropped, d, " "); for (i = 1; i <= n; i++) gone[d[i]] = 1 }
    /^[a-z]/ { part = $1; sub(/:.*/, "", part) }
    part in gone { next }
    { key = $1; sub(/:.*/, "", key) }
    /^  [a-z]/ && (part "." key) in to { print "  " key ": " to[part "." key]; next }
    { print }' "$1"
}

# schedule PART STEPS: its settings for a run of so many steps, looked at four times.
schedule() {
  local every=$(($2 / 20 > 0 ? $2 / 20 : 1))
  echo "$1.steps=$2 $1.checkpoint_every=$every $1.look_every=$((every * 5))"
}

# speed LOG: the last seconds a step in it.
speed() {
  grep -oE '[0-9.]+ s a step' "$1" | tail -n 1 | cut -d' ' -f1
}

# steps SECONDS SPEED
steps() {
  awk -v t="$1" -v s="$2" 'BEGIN { n = int(t / s / 20) * 20; print n < 20 ? 20 : n }'
}

train() {
  "$worker" pretrain "$1" --out "$2" --device "$device" >>"$2.log" 2>&1
}

# train_both SUFFIX: vae and clip, each in a folder of its own.
train_both() {
  local vae
  train "$out/vae$1.yaml" "$out/vae$1" & vae=$!
  train "$out/clip$1.yaml" "$out/clip$1" || { cat "$out/clip$1.log"; exit 1; }
  wait "$vae" || { cat "$out/vae$1.log"; exit 1; }
}

data
if [ ! -e "$out/parts.yaml" ]; then
  with "$config" "$(schedule vae "$probe")" "tokenizer clip unet" >"$out/vae-probe.yaml"
  with "$config" "$(schedule clip "$probe")" "vae unet" >"$out/clip-probe.yaml"
  rm -rf "$out"/{vae,clip}-probe "$out"/{vae,clip}-probe.log
  train_both -probe
  vae=$(steps $((seconds / 6)) "$(speed "$out/vae-probe.log")")
  clip=$(steps $((seconds / 6)) "$(speed "$out/clip-probe.log")")
  rm -rf "$out"/{vae,clip}-probe
  with "$config" "$(schedule vae "$vae") $(schedule clip "$clip")" >"$out/parts.yaml.new"
  mv "$out/parts.yaml.new" "$out/parts.yaml"
  say "autoencoder: $vae steps; CLIP: $clip steps"
fi
if [ ! -e "$out/config.yaml" ]; then
  with "$out/parts.yaml" "" "tokenizer clip unet" >"$out/vae.yaml"
  with "$out/parts.yaml" "" "vae unet" >"$out/clip.yaml"
  train_both ""
  tail -n 2 "$out/vae.log" "$out/clip.log"
  # Together they are what one run would have made by now.
  mkdir -p "$out/work"
  cp -r "$out/vae/base" "$out/vae/sheets" "$out/clip/clip" "$out/"
  cp -r "$out/clip/base/tokenizer" "$out/base/"
  cp "$out/vae/work/vae.safetensors" "$out/clip/work/clip.safetensors" "$out/work/"
  with "$out/parts.yaml" "$(schedule unet "$probe")" >"$out/unet-probe.yaml"
  rm -f "$out/work/unet.safetensors" "$out.log"
  begun=$SECONDS
  train "$out/unet-probe.yaml" "$out" || { cat "$out.log"; exit 1; }
  begun=$((SECONDS - begun))
  rm -f "$out/work/unet.safetensors"
  # What the probe took besides its steps, the run will take again.
  unet=$(steps $((seconds - SECONDS - begun)) "$(speed "$out.log")")
  with "$out/parts.yaml" "$(schedule unet "$unet")" >"$out/config.yaml.new"
  mv "$out/config.yaml.new" "$out/config.yaml"
  say "UNet: $unet steps of $(speed "$out.log") s"
fi
train "$out/config.yaml" "$out" || { tail -n 5 "$out.log"; exit 1; }
tail -n 2 "$out.log"
say "$out/base"
