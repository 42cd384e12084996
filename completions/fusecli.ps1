# Completion of fusecli for PowerShell, written by `python -m fusecli.completions`.

Register-ArgumentCompleter -Native -CommandName fusecli -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commands = @{
        '' = [ordered]@{ 'fuse' = 'Fuse every infrared/visible pair of two folders.' }
    }
    $options = @{
        '' = [ordered]@{ '--version' = 'Show the version.'; '--install-completion' = 'Install completion for the current shell.'; '--show-completion' = 'Show completion for the current shell, to copy it or customize the installation.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'fuse' = [ordered]@{ '--model' = 'Network: mfeif, reconet, reconet-plus, rfn-nest.'; '-m' = 'Network: mfeif, reconet, reconet-plus, rfn-nest.'; '--weights' = 'File, name in the weight manifest, or random (untrained).'; '--batch-size' = 'Pairs of equal size in one forward pass.'; '--tile' = 'Edge of the pieces of large images: auto, off or pixels.'; '--tile-overlap' = 'Pixels shared by neighbouring pieces.'; '--compare' = 'Also write OUT/.compare/KEY.png beside the sources.'; '--recursive' = 'Descend into folders.'; '-r' = 'Descend into folders.'; '--pairs' = 'Pair list (.csv, .tsv, .jsonl, - for stdin) with columns ir, vis and optionally name, in place of IR and VIS.'; '--limit' = 'Stop after the first N pairs by key.'; '--ir-suffix' = 'End of infrared names to leave out.'; '--vis-suffix' = 'End of visible names to leave out.'; '--pair-regex' = 'Its first group (or group ''key'') in the relative path is the key.'; '--pair-by' = 'Match by key or by sorted place.'; '--unpaired' = 'What to do about files without a partner.'; '--out' = 'Folder; or a file for one item, or - for stdout.'; '-o' = 'Folder; or a file for one item, or - for stdout.'; '--overwrite' = 'Replace what exists.'; '--name' = 'Stem of each result; fields: key, stem, parent, model, index.'; '--format' = 'auto keeps TIFF for TIFF and float results, else PNG.'; '--quality' = 'Of JPEG and WebP.'; '--ir-range' = 'auto, dtype, LO:HI or pLO:pHI; auto is dtype for 8 bit, else p0.5:p99.5.'; '--vis-range' = 'The same for the visible image.'; '--out-dtype' = 'auto follows the visible image.'; '--tone' = 'The network''s published convention, clip, or stretch.'; '--chroma' = 'Colours: as in the visible image, always, or never.'; '--alpha' = 'Alpha of the visible image.'; '--fit' = 'Resample one image when the sizes differ.'; '--grid' = 'Whose grid and metadata the result takes.'; '--ir-luma' = 'Take the luma of false-colour infrared images.'; '--metadata' = 'EXIF, XMP, ICC and GeoTIFF tags of the reference.'; '--jobs' = 'Reading and writing threads.'; '-j' = 'Reading and writing threads.'; '--device' = 'auto, cpu, cuda, cuda:N (several with commas), mps.'; '--precision' = 'Of networks.'; '--seed' = 'For anything random.'; '--fail-fast' = 'Stop at the first failure.'; '--dry-run' = 'List what would be done; write nothing.'; '-n' = 'List what would be done; write nothing.'; '--json' = 'One JSON document on stdout.'; '--print' = 'Each written path on stdout.'; '--print0' = 'The same, NUL-separated.'; '--progress' = 'On standard error.'; '--quiet' = 'Errors only.'; '-q' = 'Errors only.'; '--verbose' = 'More detail; -vv adds tracebacks.'; '-v' = 'More detail; -vv adds tracebacks.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
    }
    $values = @{
        'fuse --model' = @('mfeif', 'reconet', 'reconet-plus', 'rfn-nest')
        'fuse -m' = @('mfeif', 'reconet', 'reconet-plus', 'rfn-nest')
        'fuse --weights' = @('random')
        'fuse --batch-size' = @()
        'fuse --tile' = @('auto', 'off')
        'fuse --tile-overlap' = @()
        'fuse --compare' = @('none', 'side', 'checker', 'zoom')
        'fuse --pairs' = @()
        'fuse --limit' = @()
        'fuse --ir-suffix' = @()
        'fuse --vis-suffix' = @()
        'fuse --pair-regex' = @()
        'fuse --pair-by' = @('key', 'order')
        'fuse --unpaired' = @('error', 'skip')
        'fuse --out' = @()
        'fuse -o' = @()
        'fuse --name' = @()
        'fuse --format' = @('auto', 'png', 'tiff', 'jpeg', 'webp', 'npy')
        'fuse --quality' = @()
        'fuse --ir-range' = @()
        'fuse --vis-range' = @()
        'fuse --out-dtype' = @('auto', 'uint8', 'uint16', 'float32')
        'fuse --tone' = @('model', 'clip', 'stretch')
        'fuse --chroma' = @('auto', 'keep', 'drop')
        'fuse --alpha' = @('drop', 'keep')
        'fuse --fit' = @('error', 'ir-to-vis', 'vis-to-ir')
        'fuse --grid' = @('vis', 'ir')
        'fuse --metadata' = @('keep', 'drop')
        'fuse --jobs' = @()
        'fuse -j' = @()
        'fuse --device' = @()
        'fuse --precision' = @('fp32', 'bf16', 'fp16', 'auto')
        'fuse --seed' = @()
        'fuse --progress' = @('auto', 'bar', 'plain', 'jsonl', 'none')
    }
    $arguments = @{
        'fuse 0' = @()
        'fuse 1' = @()
    }

    $at = ''
    $place = 0
    $option = ''
    $current = "$wordToComplete"
    $line = @($commandAst.CommandElements | Select-Object -Skip 1 |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text })
    foreach ($word in $line) {
        if ($option) { $option = '' }
        elseif ($values.ContainsKey("$at $word")) { $option = $word }
        elseif ($word -like '-*') { }
        elseif ($commands.ContainsKey($at) -and $commands[$at].Contains($word)) {
            $at = "$at $word".Trim()
            $place = 0
        }
        else { $place++ }
    }
    $begun = ''
    if ($current -match '^(--[^=]+)=(.*)$' -and $values.ContainsKey("$at $($Matches[1])")) {
        $option = $Matches[1]
        $begun = "$option="
        $current = $Matches[2]
    }

    # word to help; when nothing is found PowerShell offers files
    $found = [ordered]@{}
    if ($option) {
        foreach ($word in $values["$at $option"]) { $found[$word] = $word }
    }
    elseif ($current -like '-*') { $found = $options[$at] }
    elseif ($commands.ContainsKey($at)) { $found = $commands[$at] }
    else {
        $key = if ($arguments.ContainsKey("$at $place")) { "$at $place" } else { "$at *" }
        foreach ($word in $arguments[$key]) { $found[$word] = $word }
    }
    if ($current -match '^(.*,)([^,]*)$') {
        $begun += $Matches[1]
        $current = $Matches[2]
    }
    foreach ($word in @($found.Keys)) {
        if ($word.StartsWith($current)) {
            [System.Management.Automation.CompletionResult]::new(
                "$begun$word", $word, 'ParameterValue', $found[$word])
        }
    }
}
