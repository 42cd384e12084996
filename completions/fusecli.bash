# Completion of fusecli for bash, written by `python -m fusecli.completions`.

# Set words, paths and list to what option $2 of command $1 takes; fail if it takes nothing.
_fusecli_value() {
    case "$1 $2" in
        "fuse --model" | "fuse -m") words='duet mfeif reconet reconet-plus rfn-nest rfvif smfnet' ;;
        "fuse --weights") words='random' paths=-f ;;
        "fuse --batch-size") : ;;
        "fuse --tile") words='auto off' ;;
        "fuse --tile-overlap") : ;;
        "fuse --align") words='none auto ngf ecc mi phase feature flow reconet' ;;
        "fuse --align-weights") paths=-f ;;
        "fuse --on-reject") words='identity fail' ;;
        "fuse --pairs") paths=-f ;;
        "fuse --limit") : ;;
        "fuse --ir-suffix") : ;;
        "fuse --vis-suffix") : ;;
        "fuse --pair-regex") : ;;
        "fuse --pair-by") words='key order time' ;;
        "fuse --time-format") : ;;
        "fuse --max-gap") : ;;
        "fuse --offset") : ;;
        "fuse --unpaired") words='error skip' ;;
        "fuse --out" | "fuse -o") paths=-f ;;
        "fuse --manifest") paths=-f ;;
        "fuse --name") : ;;
        "fuse --format") words='auto png tiff jpeg webp npy' ;;
        "fuse --ir-range") words='auto dtype' ;;
        "fuse --vis-range") words='auto dtype' ;;
        "fuse --range-scope") words='image all' ;;
        "fuse --out-dtype") words='auto uint8 uint16 float32' ;;
        "fuse --tone") words='model clip stretch' ;;
        "fuse --chroma") words='auto keep drop' ;;
        "fuse --alpha") words='keep drop' ;;
        "fuse --fit") words='error ir-to-vis vis-to-ir' ;;
        "fuse --grid") words='ir vis' ;;
        "fuse --metadata") words='keep drop' ;;
        "fuse --reader") words='image thermal' ;;
        "fuse --compare") words='none side checker zoom' ;;
        "fuse --quality") : ;;
        "fuse --jobs" | "fuse -j") : ;;
        "fuse --device") words='auto cpu cuda mps' ;;
        "fuse --precision") words='fp32 bf16 fp16 auto' ;;
        "fuse --seed") : ;;
        "fuse --shard") : ;;
        "fuse --backend") : ;;
        "fuse --chunk") : ;;
        "fuse --progress") words='auto bar plain jsonl none' ;;
        "fuse --config") paths=-f ;;
        "register --method") words='auto ngf ecc mi phase feature flow reconet' ;;
        "register --weights") paths=-f ;;
        "register --transform") words='auto translation euclidean similarity affine homography dense' ;;
        "register --init") paths=-f ;;
        "register --fov-ratio") : ;;
        "register --apply") paths=-f ;;
        "register --max-side") : ;;
        "register --min-gain") : ;;
        "register --on-reject") words='identity fail' ;;
        "register --interpolation") words='nearest linear cubic' ;;
        "register --border") words='constant replicate reflect' ;;
        "register --fill") : ;;
        "register --pairs") paths=-f ;;
        "register --limit") : ;;
        "register --ir-suffix") : ;;
        "register --vis-suffix") : ;;
        "register --pair-regex") : ;;
        "register --pair-by") words='key order time' ;;
        "register --time-format") : ;;
        "register --max-gap") : ;;
        "register --offset") : ;;
        "register --unpaired") words='error skip' ;;
        "register --out" | "register -o") paths=-f ;;
        "register --manifest") paths=-f ;;
        "register --name") : ;;
        "register --format") words='auto png tiff jpeg webp npy' ;;
        "register --fixed") words='ir vis' ;;
        "register --per") words='pair folder' ;;
        "register --save-field") words='none npz flo tiff' ;;
        "register --preview") words='none checker overlay field' ;;
        "register --metadata") words='keep drop' ;;
        "register --quality") : ;;
        "register --jobs" | "register -j") : ;;
        "register --device") words='auto cpu cuda mps' ;;
        "register --precision") words='fp32 bf16 fp16 auto' ;;
        "register --seed") : ;;
        "register --shard") : ;;
        "register --backend") : ;;
        "register --chunk") : ;;
        "register --progress") words='auto bar plain jsonl none' ;;
        "register --config") paths=-f ;;
        "warp --kind") words='shift rigid similarity affine perspective elastic mixed' ;;
        "warp --preset") words='mild medium severe reconet-easy reconet-normal reconet-hard' ;;
        "warp --shift") : ;;
        "warp --rotate") : ;;
        "warp --scale") : ;;
        "warp --shear") : ;;
        "warp --perspective") : ;;
        "warp --elastic-alpha") : ;;
        "warp --elastic-sigma") : ;;
        "warp --interpolation") words='nearest linear cubic' ;;
        "warp --border") words='constant replicate reflect' ;;
        "warp --fill") : ;;
        "warp --pairs") paths=-f ;;
        "warp --limit") : ;;
        "warp --ir-suffix") : ;;
        "warp --vis-suffix") : ;;
        "warp --pair-regex") : ;;
        "warp --pair-by") words='key order time' ;;
        "warp --time-format") : ;;
        "warp --max-gap") : ;;
        "warp --offset") : ;;
        "warp --unpaired") words='error skip' ;;
        "warp --out" | "warp -o") paths=-f ;;
        "warp --manifest") paths=-f ;;
        "warp --name") : ;;
        "warp --format") words='auto png tiff jpeg webp npy' ;;
        "warp --which") words='ir vis' ;;
        "warp --variants") : ;;
        "warp --noise") : ;;
        "warp --link") words='copy hard sym' ;;
        "warp --save-field") words='none npz flo tiff' ;;
        "warp --preview") words='none grid field' ;;
        "warp --metadata") words='keep drop' ;;
        "warp --quality") : ;;
        "warp --jobs" | "warp -j") : ;;
        "warp --device") words='auto cpu cuda mps' ;;
        "warp --precision") words='fp32 bf16 fp16 auto' ;;
        "warp --seed") : ;;
        "warp --shard") : ;;
        "warp --backend") : ;;
        "warp --chunk") : ;;
        "warp --progress") words='auto bar plain jsonl none' ;;
        "warp --config") paths=-f ;;
        "train --out" | "train -o") paths=-d ;;
        "train --model" | "train -m") words='duet mfeif reconet reconet-m-register reconet-plus reconet-u-register rfn-nest rfvif smfnet' ;;
        "train --init") paths=-f ;;
        "train --val-ir") paths=-f ;;
        "train --val-vis") paths=-f ;;
        "train --val-fraction") : ;;
        "train --set") : ;;
        "train --stage") : ;;
        "train --epochs") : ;;
        "train --steps") : ;;
        "train --max-time") : ;;
        "train --batch-size") : ;;
        "train --crop") : ;;
        "train --lr") : ;;
        "train --optimizer") words='adam adamw' ;;
        "train --schedule") words='constant cosine' ;;
        "train --warmup") : ;;
        "train --accumulate") : ;;
        "train --clip-grad") : ;;
        "train --loss") : ;;
        "train --misalign") words='none mild medium severe reconet-easy reconet-normal reconet-hard' ;;
        "train --eval-every") : ;;
        "train --save-every") : ;;
        "train --keep") : ;;
        "train --log") words='jsonl tensorboard' ;;
        "train --devices") : ;;
        "train --pairs") paths=-f ;;
        "train --limit") : ;;
        "train --ir-suffix") : ;;
        "train --vis-suffix") : ;;
        "train --pair-regex") : ;;
        "train --pair-by") words='key order time' ;;
        "train --time-format") : ;;
        "train --max-gap") : ;;
        "train --offset") : ;;
        "train --unpaired") words='error skip' ;;
        "train --jobs" | "train -j") : ;;
        "train --device") words='auto cpu cuda mps' ;;
        "train --precision") words='fp32 bf16 fp16 auto' ;;
        "train --seed") : ;;
        "train --progress") words='auto bar plain jsonl none' ;;
        "train --config") paths=-f ;;
        "eval --metrics") words='standard purpose targets vifb rfn-nest smfnet linfeng liu fast all' list=1 ;;
        "eval --reference") paths=-d ;;
        "eval --targets") paths=-f ;;
        "eval --target-class") words='all person' list=1 ;;
        "eval --truth") paths=-d ;;
        "eval --compute") words='luma rgb' ;;
        "eval --ir-range") words='auto dtype' ;;
        "eval --vis-range") words='auto dtype' ;;
        "eval --out" | "eval -o") paths=-d ;;
        "eval --table") words='text csv md latex html' ;;
        "eval --plots") words='none box curves bars radar contact zoom' list=1 ;;
        "eval --roi") : ;;
        "eval --fail-under") : ;;
        "eval --pairs") paths=-f ;;
        "eval --limit") : ;;
        "eval --ir-suffix") : ;;
        "eval --vis-suffix") : ;;
        "eval --pair-regex") : ;;
        "eval --pair-by") words='key order time' ;;
        "eval --time-format") : ;;
        "eval --max-gap") : ;;
        "eval --offset") : ;;
        "eval --unpaired") words='error skip' ;;
        "eval --jobs" | "eval -j") : ;;
        "eval --device") words='auto cpu cuda' ;;
        "eval --progress") words='auto bar plain jsonl none' ;;
        "eval --config") paths=-f ;;
        "export --out" | "export -o") paths=-f ;;
        "export --format") words='onnx pt2 safetensors' ;;
        "export --weights") paths=-f ;;
        "export --set") : ;;
        "export --dynamic") words='all batch hw none' ;;
        "export --size") : ;;
        "export --opset") : ;;
        "export --precision") words='fp32 fp16' ;;
        "export --atol") : ;;
        "export --rtol") : ;;
        "models convert --model" | "models convert -m") words='duet mfeif reconet reconet-m-register reconet-plus reconet-u-register rfn-nest rfvif smfnet' ;;
        "models convert --set") : ;;
        *) return 1 ;;
    esac
}

# The same for argument number $2 of command $1.
_fusecli_argument() {
    case "$1 $2" in
        "fuse 0") paths=-f ;;
        "fuse 1") paths=-f ;;
        "register 0") paths=-f ;;
        "register 1") paths=-f ;;
        "warp 0") paths=-f ;;
        "warp 1") paths=-f ;;
        "train 0") paths=-f ;;
        "train 1") paths=-f ;;
        "eval 0") paths=-f ;;
        "eval 1") paths=-f ;;
        "eval "*) paths=-f ;;
        "export 0") words='duet mfeif reconet reconet-m-register reconet-plus reconet-u-register rfn-nest rfvif smfnet' ;;
        "models show 0") words='duet mfeif reconet reconet-m-register reconet-plus reconet-u-register rfn-nest rfvif smfnet' ;;
        "models verify "*) words='duet mfeif reconet reconet-m-register reconet-plus reconet-u-register rfn-nest rfvif smfnet' ;;
        "models convert "*) paths=-f ;;
        "models convert 1") paths=-f ;;
    esac
}

_fusecli_options() {
    case "$1" in
        "") echo '--version --install-completion --show-completion --help -h' ;;
        "fuse") echo '--model -m --weights --batch-size --tile --tile-overlap --align --align-weights --on-reject --recursive -r --pairs --limit --ir-suffix --vis-suffix --pair-regex --pair-by --time-format --max-gap --offset --unpaired --out -o --overwrite --resume --checksum --manifest --name --format --ir-range --vis-range --range-scope --out-dtype --tone --chroma --alpha --fit --grid --ir-luma --metadata --reader --compare --quality --jobs -j --device --precision --seed --shard --backend --chunk --fail-fast --dry-run -n --json --print --print0 --progress --quiet -q --verbose -v --config --help -h' ;;
        "register") echo '--method --weights --transform --init --fov-ratio --apply --max-side --min-gain --on-reject --interpolation --border --fill --recursive -r --pairs --limit --ir-suffix --vis-suffix --pair-regex --pair-by --time-format --max-gap --offset --unpaired --out -o --overwrite --resume --checksum --manifest --name --format --fixed --per --save-field --save-mask --preview --metadata --quality --jobs -j --device --precision --seed --shard --backend --chunk --fail-fast --dry-run -n --json --print --print0 --progress --quiet -q --verbose -v --config --help -h' ;;
        "warp") echo '--kind --preset --shift --rotate --scale --shear --perspective --elastic-alpha --elastic-sigma --interpolation --border --fill --recursive -r --pairs --limit --ir-suffix --vis-suffix --pair-regex --pair-by --time-format --max-gap --offset --unpaired --out -o --overwrite --resume --checksum --manifest --name --format --which --exact --variants --noise --crop-valid --link --save-field --no-save-mask --save-mask --preview --metadata --quality --jobs -j --device --precision --seed --shard --backend --chunk --fail-fast --dry-run -n --json --print --print0 --progress --quiet -q --verbose -v --config --help -h' ;;
        "train") echo '--out -o --model -m --init --val-ir --val-vis --val-fraction --resume --overwrite --dry-run -n --set --stage --epochs --steps --max-time --batch-size --crop --lr --optimizer --schedule --warmup --accumulate --clip-grad --loss --misalign --no-augment --augment --eval-every --save-every --keep --log --deterministic --compile --devices --recursive -r --pairs --limit --ir-suffix --vis-suffix --pair-regex --pair-by --time-format --max-gap --offset --unpaired --jobs -j --device --precision --seed --json --print --print0 --progress --quiet -q --verbose -v --config --help -h' ;;
        "eval") echo '--metrics --reference --targets --target-class --truth --compute --ir-range --vis-range --out -o --overwrite --table --plots --roi --fail-under --dry-run -n --recursive -r --pairs --limit --ir-suffix --vis-suffix --pair-regex --pair-by --time-format --max-gap --offset --unpaired --jobs -j --device --json --print --print0 --progress --quiet -q --verbose -v --config --help -h' ;;
        "export") echo '--out -o --format --weights --set --dynamic --size --opset --precision --embed-io --no-check --check --atol --rtol --overwrite --json --quiet -q --help -h' ;;
        "doctor") echo '--json --help -h' ;;
        "models") echo '--help -h' ;;
        "models list") echo '--json --help -h' ;;
        "models show") echo '--json --help -h' ;;
        "models verify") echo '--json --help -h' ;;
        "models convert") echo '--model -m --set --overwrite --json --help -h' ;;
    esac
}

_fusecli_commands() {
    case "$1" in
        "") echo 'fuse register warp train eval export doctor models' ;;
        "models") echo 'list show verify convert' ;;
    esac
}

_fusecli() {
    local at= place=0 option= glue= word cur words= paths= list= i IFS=$' \t\n'
    local -a line=()
    for ((i = 0; i <= COMP_CWORD; i++)); do # bash makes three words of cuda:0
        word=${COMP_WORDS[i]}
        if [[ -n $glue || ($word == :* && i -gt 0) ]]; then
            line[${#line[@]}-1]+=$word
        else
            line+=("$word")
        fi
        [[ $word == *: ]] && glue=1 || glue=
    done
    cur=${line[${#line[@]}-1]}
    for ((i = 1; i < ${#line[@]} - 1; i++)); do
        word=${line[i]}
        if [[ $word == -* ]]; then
            if _fusecli_value "$at" "$word"; then
                [[ ${line[i + 1]} == "=" ]] && ((i++)) # and three of --option=value
                ((++i >= ${#line[@]} - 1)) && option=$word
            fi
        elif [[ " $(_fusecli_commands "$at") " == *" $word "* ]]; then
            at="${at:+$at }$word" place=0
        else
            ((place++))
        fi
    done
    words= paths= list=
    [[ -n $option && $cur == "=" ]] && cur=
    if [[ -n $option ]]; then
        _fusecli_value "$at" "$option"
    elif [[ $cur == -* ]]; then
        words=$(_fusecli_options "$at")
    else
        _fusecli_argument "$at" "$place"
        words="$words $(_fusecli_commands "$at")"
    fi
    COMPREPLY=()
    if [[ -n $list && $cur == *,* ]]; then
        COMPREPLY=($(compgen -P "${cur%,*}," -W "$words" -- "${cur##*,}"))
    else
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    fi
    if [[ -n $paths ]]; then
        IFS=$'\n'
        COMPREPLY+=($(compgen "$paths" -- "$cur"))
        compopt -o filenames 2>/dev/null
    elif [[ ${COMPREPLY[0]-} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"${cur%:*}:"}; done
    fi
}

complete -F _fusecli fusecli
