# Completion of fusecli for fish, written by `python -m fusecli.completions`.

# Whether the line so far names exactly this command; `-` stands for none.
function __fusecli_at --argument-names wanted
    set -l known 'fuse'
    set -l at
    for word in (commandline -opc)[2..-1]
        contains -- (string join -- ' ' $at $word) $known; and set at $at $word
    end
    test "$at" = "$wanted"; or test "$wanted" = - -a -z "$at"
end

# The words of a list with commas: what stands before the last comma stays.
function __fusecli_list
    set -l typed (commandline -ct | string replace -r -- '^--[^=]*=' '')
    printf '%s\n' (string replace -r -- '[^,]*$' '' "$typed")$argv
end

complete -c fusecli -f
complete -c fusecli -n '__fusecli_at "-"' -a fuse -d 'Fuse every infrared/visible pair of two folders.'
complete -c fusecli -n '__fusecli_at "-"' -l version -d 'Show the version.'
complete -c fusecli -n '__fusecli_at "-"' -l install-completion -d 'Install completion for the current shell.'
complete -c fusecli -n '__fusecli_at "-"' -l show-completion -d 'Show completion for the current shell, to copy it or customize the installation.'
complete -c fusecli -n '__fusecli_at "-"' -l help -s h -d 'Show this message and exit.'
complete -c fusecli -n '__fusecli_at "fuse"' -l model -s m -r -f -a 'mfeif reconet reconet-plus rfn-nest' -d 'Network: mfeif, reconet, reconet-plus, rfn-nest.'
complete -c fusecli -n '__fusecli_at "fuse"' -l weights -r -F -a 'random' -d 'File, name in the weight manifest, or random (untrained).'
complete -c fusecli -n '__fusecli_at "fuse"' -l batch-size -r -f -d 'Pairs of equal size in one forward pass.'
complete -c fusecli -n '__fusecli_at "fuse"' -l tile -r -f -a 'auto off' -d 'Edge of the pieces of large images: auto, off or pixels.'
complete -c fusecli -n '__fusecli_at "fuse"' -l tile-overlap -r -f -d 'Pixels shared by neighbouring pieces.'
complete -c fusecli -n '__fusecli_at "fuse"' -l compare -r -f -a 'none side checker zoom' -d 'Also write OUT/.compare/KEY.png beside the sources.'
complete -c fusecli -n '__fusecli_at "fuse"' -l recursive -s r -d 'Descend into folders.'
complete -c fusecli -n '__fusecli_at "fuse"' -l pairs -r -F -d 'Pair list (.csv, .tsv, .jsonl, - for stdin) with columns ir, vis and optionally name, in place of IR and VIS.'
complete -c fusecli -n '__fusecli_at "fuse"' -l limit -r -f -d 'Stop after the first N pairs by key.'
complete -c fusecli -n '__fusecli_at "fuse"' -l ir-suffix -r -f -d 'End of infrared names to leave out.'
complete -c fusecli -n '__fusecli_at "fuse"' -l vis-suffix -r -f -d 'End of visible names to leave out.'
complete -c fusecli -n '__fusecli_at "fuse"' -l pair-regex -r -f -d 'Its first group (or group \'key\') in the relative path is the key.'
complete -c fusecli -n '__fusecli_at "fuse"' -l pair-by -r -f -a 'key order' -d 'Match by key or by sorted place.'
complete -c fusecli -n '__fusecli_at "fuse"' -l unpaired -r -f -a 'error skip' -d 'What to do about files without a partner.'
complete -c fusecli -n '__fusecli_at "fuse"' -l out -s o -r -F -d 'Folder; or a file for one item, or - for stdout.'
complete -c fusecli -n '__fusecli_at "fuse"' -l overwrite -d 'Replace what exists.'
complete -c fusecli -n '__fusecli_at "fuse"' -l name -r -f -d 'Stem of each result; fields: key, stem, parent, model, index.'
complete -c fusecli -n '__fusecli_at "fuse"' -l format -r -f -a 'auto png tiff jpeg webp npy' -d 'auto keeps TIFF for TIFF and float results, else PNG.'
complete -c fusecli -n '__fusecli_at "fuse"' -l quality -r -f -d 'Of JPEG and WebP.'
complete -c fusecli -n '__fusecli_at "fuse"' -l ir-range -r -f -d 'auto, dtype, LO:HI or pLO:pHI; auto is dtype for 8 bit, else p0.5:p99.5.'
complete -c fusecli -n '__fusecli_at "fuse"' -l vis-range -r -f -d 'The same for the visible image.'
complete -c fusecli -n '__fusecli_at "fuse"' -l out-dtype -r -f -a 'auto uint8 uint16 float32' -d 'auto follows the visible image.'
complete -c fusecli -n '__fusecli_at "fuse"' -l tone -r -f -a 'model clip stretch' -d 'The network\'s published convention, clip, or stretch.'
complete -c fusecli -n '__fusecli_at "fuse"' -l chroma -r -f -a 'auto keep drop' -d 'Colours: as in the visible image, always, or never.'
complete -c fusecli -n '__fusecli_at "fuse"' -l alpha -r -f -a 'drop keep' -d 'Alpha of the visible image.'
complete -c fusecli -n '__fusecli_at "fuse"' -l fit -r -f -a 'error ir-to-vis vis-to-ir' -d 'Resample one image when the sizes differ.'
complete -c fusecli -n '__fusecli_at "fuse"' -l grid -r -f -a 'vis ir' -d 'Whose grid and metadata the result takes.'
complete -c fusecli -n '__fusecli_at "fuse"' -l ir-luma -d 'Take the luma of false-colour infrared images.'
complete -c fusecli -n '__fusecli_at "fuse"' -l metadata -r -f -a 'keep drop' -d 'EXIF, XMP, ICC and GeoTIFF tags of the reference.'
complete -c fusecli -n '__fusecli_at "fuse"' -l jobs -s j -r -f -d 'Reading and writing threads.'
complete -c fusecli -n '__fusecli_at "fuse"' -l device -r -f -d 'auto, cpu, cuda, cuda:N (several with commas), mps.'
complete -c fusecli -n '__fusecli_at "fuse"' -l precision -r -f -a 'fp32 bf16 fp16 auto' -d 'Of networks.'
complete -c fusecli -n '__fusecli_at "fuse"' -l seed -r -f -d 'For anything random.'
complete -c fusecli -n '__fusecli_at "fuse"' -l fail-fast -d 'Stop at the first failure.'
complete -c fusecli -n '__fusecli_at "fuse"' -l dry-run -s n -d 'List what would be done; write nothing.'
complete -c fusecli -n '__fusecli_at "fuse"' -l json -d 'One JSON document on stdout.'
complete -c fusecli -n '__fusecli_at "fuse"' -l print -d 'Each written path on stdout.'
complete -c fusecli -n '__fusecli_at "fuse"' -l print0 -d 'The same, NUL-separated.'
complete -c fusecli -n '__fusecli_at "fuse"' -l progress -r -f -a 'auto bar plain jsonl none' -d 'On standard error.'
complete -c fusecli -n '__fusecli_at "fuse"' -l quiet -s q -d 'Errors only.'
complete -c fusecli -n '__fusecli_at "fuse"' -l verbose -s v -d 'More detail; -vv adds tracebacks.'
complete -c fusecli -n '__fusecli_at "fuse"' -l help -s h -d 'Show this message and exit.'
complete -c fusecli -n '__fusecli_at "fuse"' -F
