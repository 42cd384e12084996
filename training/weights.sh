#!/usr/bin/env bash
# Train every network that fusecli ships weights for, as the model cards say.
#
#   training/weights.sh ../shared/data runs/           all of them: some four hours of one CPU core
#   training/weights.sh ../shared/data runs/ mfeif     one
#
# Interrupted, it goes on where it stopped when called again. Put a result among the shipped ones
# with `python training/ship.py runs/NAME`.
set -euo pipefail

data=$1 runs=$2
shift 2
mkdir -p "$runs"
python "$(dirname "$0")/pairs.py" "$data" > "$runs/pairs.csv"

# Shared by all: bfloat16, gradients clipped, a cosine after a short warm-up.
train() { # RUN ARGUMENTS...
  local run=$runs/$1
  shift
  [ -e "$run/last.state.pt" ] && set -- "$@" --resume
  fusecli train --pairs "$runs/pairs.csv" -o "$run" --precision bf16 --schedule cosine "$@"
}

duet() {
  train duet -m duet --steps 5000
}

reconet() {
  local loss="--loss ssim=1 --loss pixel=1 --loss wssim=3 --loss gradient=8 --loss range=5"
  train reconet-fuse -m reconet --stage fuse --crop 64 --batch-size 8 --steps 500 --lr 3e-3 $loss --loss intensity=2
  train reconet-settled -m reconet --stage settle --init "$runs/reconet-fuse/last.safetensors" \
    --crop 96 --batch-size 6 --steps 1500 --lr 2e-3 $loss --loss intensity=2
  train reconet -m reconet --stage settle --init "$runs/reconet-settled/last.safetensors" \
    --crop 96 --batch-size 6 --steps 900 --lr 1e-3 --warmup 10 $loss --loss intensity=3 --loss difference=0.4
}

mfeif() {
  local first="-m mfeif --crop 96 --clip-grad 1" shared="-m mfeif --set margin=8 --crop 96 --clip-grad 1"
  train mfeif-first $first --stage finetune --batch-size 4 --steps 1600 --lr 1.5e-3 --warmup 30 \
    --loss gradient=12 --loss wssim=6 --loss intensity=4 --loss ssim=1 --loss range=5
  train mfeif-balanced $shared --stage finetune --init "$runs/mfeif-first/last.safetensors" \
    --batch-size 4 --steps 450 --lr 7e-4 --warmup 10 \
    --loss gradient=5 --loss wssim=2 --loss intensity=8 --loss ssim=4 --loss range=5
  train mfeif-settled $shared --stage settle --init "$runs/mfeif-balanced/last.safetensors" \
    --batch-size 2 --steps 160 --lr 4e-4 --warmup 10 --loss ssim=5
  train mfeif $shared --stage settle --init "$runs/mfeif-settled/last.safetensors" \
    --batch-size 2 --steps 150 --lr 3e-4 --warmup 5 --seed 1 --loss ssim=8
}

rfvif() {
  local loss="--loss gradient=12 --loss wssim=6 --loss intensity=4 --loss range=5 --loss perceptual=0 --loss pixel=1"
  train rfvif-shifted -m rfvif --set width=16 --crop 96 --batch-size 6 --steps 1800 --max-time 27m \
    --lr 1e-3 --clip-grad 1 --warmup 30 $loss
  train rfvif -m rfvif --set width=16 --init "$runs/rfvif-shifted/last.safetensors" --misalign none \
    --crop 96 --batch-size 4 --steps 600 --lr 1e-3 --clip-grad 1 --warmup 30 $loss
}

smfnet() {
  local loss="--loss gradient=12 --loss wssim=6 --loss intensity=4 --loss ssim=1 --loss range=5"
  train smfnet-first -m smfnet --set tone=clip --stage fusion --crop 64 --batch-size 2 --steps 750 --max-time 15m \
    --lr 5e-4 --clip-grad 1 --warmup 30 $loss
  train smfnet -m smfnet --set tone=clip --stage fusion --init "$runs/smfnet-first/last.safetensors" \
    --crop 64 --batch-size 2 --steps 320 --lr 5e-4 --clip-grad 1 --warmup 5 $loss
}

rfn-nest() {
  train rfn-nest-autoencoder -m rfn-nest --stage autoencoder --crop 64 --batch-size 2 --steps 400 \
    --lr 1e-3 --clip-grad 1 --warmup 10
  train rfn-nest -m rfn-nest --stage fusion --init "$runs/rfn-nest-autoencoder/last.safetensors" \
    --set normalise=none --set w_ir=0.5 --set w_vis=0.5 --set tone=clip --crop 80 --batch-size 2 --steps 450 \
    --lr 1e-3 --clip-grad 1 --warmup 10 --loss detail=100 --loss wssim=500 --loss gradient=600 \
    --loss intensity=200 --loss range=200
}

[ $# -gt 0 ] || set -- duet reconet mfeif rfvif smfnet rfn-nest
for network in "$@"; do "$network"; done
