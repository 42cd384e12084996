#!/usr/bin/env bash
# Train every network that fusecli ships weights for, as the model cards say.
#
#   training/weights.sh ../shared/data runs/           all of them: some seven hours of one CPU core
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
  train duet-first -m duet --steps 2400 --loss gradient=4 --loss ssim=3 --loss difference=0.4
  train duet -m duet --init "$runs/duet-first/last.safetensors" --steps 1300 --lr 2e-3 --seed 1
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
  train mfeif-again $shared --stage settle --init "$runs/mfeif-settled/last.safetensors" \
    --batch-size 2 --steps 150 --lr 3e-4 --warmup 5 --seed 1 --loss ssim=8
  train mfeif-third $shared --stage settle --init "$runs/mfeif-again/last.safetensors" \
    --batch-size 2 --steps 250 --lr 3e-4 --warmup 5 --seed 2 --loss ssim=11 --loss difference=0.9
  train mfeif $shared --stage settle --init "$runs/mfeif-third/last.safetensors" \
    --batch-size 3 --steps 260 --lr 3e-4 --warmup 5 --seed 5 \
    --loss ssim=15 --loss intensity=10 --loss difference=1
}

rfvif() {
  local shared="-m rfvif --set width=16 --crop 96 --clip-grad 1 --loss range=5 --loss perceptual=0 --loss pixel=1"
  local still="--loss gradient=12 --loss wssim=6 --loss intensity=4"
  local moving="--batch-size 4 --warmup 20 --loss align=1"
  train rfvif-shifted $shared --batch-size 6 --steps 1800 --max-time 27m --lr 1e-3 --warmup 30 $still
  train rfvif-still $shared --init "$runs/rfvif-shifted/last.safetensors" --misalign none \
    --batch-size 4 --steps 600 --lr 1e-3 --warmup 30 $still
  train rfvif-4px $shared $moving --init "$runs/rfvif-still/last.safetensors" --misalign shift:4 \
    --steps 500 --lr 7e-4 --loss gradient=10 --loss wssim=4 --loss intensity=6
  train rfvif-10px $shared $moving --init "$runs/rfvif-4px/last.safetensors" --misalign shift:10 \
    --steps 2500 --lr 1e-3 --loss gradient=10 --loss wssim=4 --loss intensity=6
  train rfvif $shared $moving --init "$runs/rfvif-10px/last.safetensors" --misalign shift:10 --seed 1 \
    --steps 3400 --lr 1e-3 --loss gradient=8 --loss wssim=3 --loss intensity=8 --loss ssim=1.5 --loss difference=0.4
}

smfnet() {
  local shared="-m smfnet --set tone=clip --stage fusion --crop 64 --batch-size 2 --lr 5e-4 --clip-grad 1"
  local loss="--loss ssim=1 --loss range=5"
  train smfnet-first $shared --steps 750 --max-time 15m --warmup 30 $loss \
    --loss gradient=12 --loss wssim=6 --loss intensity=4
  train smfnet-second $shared --init "$runs/smfnet-first/last.safetensors" --steps 320 --warmup 5 $loss \
    --loss gradient=12 --loss wssim=6 --loss intensity=4
  train smfnet $shared --init "$runs/smfnet-second/last.safetensors" --steps 1100 --warmup 10 $loss \
    --loss gradient=14 --loss wssim=5 --loss intensity=8
}

rfn-nest() {
  train rfn-nest-autoencoder -m rfn-nest --stage autoencoder --crop 64 --batch-size 2 --steps 400 \
    --lr 1e-3 --clip-grad 1 --warmup 10
  local shared="-m rfn-nest --stage fusion --set normalise=none --set w_ir=0.5 --set w_vis=0.5 --set tone=clip"
  shared+=" --crop 80 --batch-size 2 --clip-grad 1 --warmup 10"
  local loss="--loss detail=100 --loss gradient=600 --loss range=200"
  train rfn-nest-first $shared --init "$runs/rfn-nest-autoencoder/last.safetensors" --steps 450 --lr 1e-3 $loss \
    --loss wssim=500 --loss intensity=200
  train rfn-nest-second $shared --init "$runs/rfn-nest-first/last.safetensors" --steps 500 --lr 7e-4 $loss \
    --loss wssim=400 --loss intensity=300 --loss difference=60
  train rfn-nest $shared --init "$runs/rfn-nest-second/last.safetensors" --steps 450 --lr 7e-4 --seed 1 $loss \
    --loss wssim=400 --loss intensity=300 --loss difference=160
}

[ $# -gt 0 ] || set -- duet reconet mfeif rfvif smfnet rfn-nest
for network in "$@"; do "$network"; done
