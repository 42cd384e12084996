# Completion of fusecli for PowerShell, written by `python -m fusecli.completions`.

Register-ArgumentCompleter -Native -CommandName fusecli -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commands = @{
        '' = [ordered]@{ 'fuse' = 'Fuse every infrared/visible pair of two folders.'; 'register' = 'Bring the infrared image of every pair onto the grid of the visible one.'; 'warp' = 'Make misaligned copies with exact ground truth.'; 'train' = 'Train or fine-tune a network by its recipe, or by yours.'; 'eval' = 'Score fused images with the metrics papers use; compare methods.'; 'export' = 'Write a network for other runtimes, and prove that it does the same there.'; 'doctor' = 'Report the environment and common faults, and fuse one small pair.'; 'models' = 'List, show, verify and convert networks and weights.' }
        'models' = [ordered]@{ 'list' = 'List every network: size, shape rules, and whether its weights are here.'; 'show' = 'Show the card of a network: paper, size, options, recipe, weights, scores, limits.'; 'verify' = 'Compare every weights file with its checksum; exit 6 when one differs or is missing.'; 'convert' = 'Turn a published checkpoint into safetensors, with every key and shape checked.' }
    }
    $options = @{
        '' = [ordered]@{ '--version' = 'Show the version.'; '--install-completion' = 'Install completion for the current shell.'; '--show-completion' = 'Show completion for the current shell, to copy it or customize the installation.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'fuse' = [ordered]@{ '--model' = 'Network: duet, mfeif, reconet, reconet-plus, rfn-nest, rfvif, smfnet.'; '-m' = 'Network: duet, mfeif, reconet, reconet-plus, rfn-nest, rfvif, smfnet.'; '--weights' = 'File, name in the weight manifest, or random (untrained).'; '--batch-size' = 'Pairs of equal size in one forward pass.'; '--tile' = 'Edge of the pieces of large images: auto, off or pixels.'; '--tile-overlap' = 'Pixels shared by neighbouring pieces.'; '--align' = 'Register first: auto, ngf, ecc, mi, phase, feature, flow, reconet; or stored transforms, a file or folder.'; '--align-weights' = 'Of a trained register, for --align reconet and auto: file or name.'; '--on-reject' = 'What --align cannot register is fused as it is, or fails.'; '--recursive' = 'Descend into folders.'; '-r' = 'Descend into folders.'; '--pairs' = 'Pair list (.csv, .tsv, .jsonl, - for stdin) with columns ir, vis and optionally name, in place of IR and VIS.'; '--limit' = 'Stop after the first N pairs by key.'; '--ir-suffix' = 'End of infrared names to leave out.'; '--vis-suffix' = 'End of visible names to leave out.'; '--pair-regex' = 'Its groups (or group ''key'') in the relative path are the key.'; '--pair-by' = 'Match by key, by sorted place, or by times in names.'; '--time-format' = 'Of the times in names, such as %Y%m%d_%H%M%S_%f.'; '--max-gap' = 'Between two frames of a pair by time.'; '--offset' = 'Added to infrared times.'; '--unpaired' = 'What to do about files without a partner.'; '--out' = 'Folder; or a file for one item, or - for stdout.'; '-o' = 'Folder; or a file for one item, or - for stdout.'; '--overwrite' = 'Replace what exists.'; '--resume' = 'Redo only what is missing or has changed.'; '--checksum' = 'Compare inputs by content, not by time.'; '--manifest' = 'Record of the run: a file, none, or auto: OUT/.fusecli/manifest.jsonl.'; '--name' = 'Stem of each result; fields: key, stem, parent, model, index.'; '--format' = 'auto keeps TIFF for TIFF and float results, else PNG.'; '--ir-range' = 'auto, dtype, LO:HI or pLO:pHI; auto is dtype for 8 bit, else p0.5:p99.5.'; '--vis-range' = 'The same for the visible image.'; '--range-scope' = 'Percentiles of each image, or once of all.'; '--out-dtype' = 'auto follows the visible image.'; '--tone' = 'The weights'' own convention, clip, or stretch.'; '--chroma' = 'Colours: as in the visible image, always, or never.'; '--alpha' = 'Alpha of the visible image.'; '--fit' = 'Resample one image when the sizes differ.'; '--grid' = 'Whose grid and metadata the result takes.'; '--ir-luma' = 'Take the luma of false-colour infrared images.'; '--metadata' = 'EXIF, XMP, ICC and GeoTIFF tags of the reference.'; '--reader' = 'thermal: FLIR files give degrees and, without VIS, their photograph too.'; '--compare' = 'Also write OUT/.compare/KEY.png beside the sources.'; '--quality' = 'Of JPEG and WebP.'; '--jobs' = 'Reading and writing threads.'; '-j' = 'Reading and writing threads.'; '--device' = 'auto, cpu, cuda, cuda:N (several with commas), mps.'; '--precision' = 'Of networks.'; '--seed' = 'For anything random.'; '--shard' = 'The I-th of N disjoint parts; slurm takes both from the job array.'; '--backend' = 'Of joblib: threading, loky (processes), dask, ray or another one.'; '--chunk' = 'Pairs sent to another process at a time.'; '--fail-fast' = 'Stop at the first failure.'; '--dry-run' = 'List what would be done; write nothing.'; '-n' = 'List what would be done; write nothing.'; '--json' = 'One JSON document on stdout.'; '--print' = 'Each written path on stdout.'; '--print0' = 'The same, NUL-separated.'; '--progress' = 'On standard error.'; '--quiet' = 'Errors only.'; '-q' = 'Errors only.'; '--verbose' = 'More detail; -vv adds tracebacks.'; '-v' = 'More detail; -vv adds tracebacks.'; '--config' = 'TOML file with defaults.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'register' = [ordered]@{ '--method' = 'One of auto, ngf, ecc, mi, phase, feature, flow, reconet.'; '--weights' = 'Of a trained register, for reconet and auto: file, or name in the manifest.'; '--transform' = 'Family; auto is affine, and dense where that is verified to be better.'; '--init' = 'Transform to begin from, or a bare 3x3 matrix, fixed to moving.'; '--fov-ratio' = 'Begin where the visible camera sees R times as wide as the infrared one.'; '--apply' = 'Estimate nothing: apply a transform file, or those of a folder by key.'; '--max-side' = 'Longer side of the working images.'; '--min-gain' = 'Rise of the agreement that is required.'; '--on-reject' = 'identity: pass refused pairs on as they are.'; '--interpolation' = 'Of pixels between pixels.'; '--border' = 'What is beyond the image that moves.'; '--fill' = 'Stored value there, for constant.'; '--recursive' = 'Descend into folders.'; '-r' = 'Descend into folders.'; '--pairs' = 'Pair list (.csv, .tsv, .jsonl, - for stdin) with columns ir, vis and optionally name, in place of IR and VIS.'; '--limit' = 'Stop after the first N pairs by key.'; '--ir-suffix' = 'End of infrared names to leave out.'; '--vis-suffix' = 'End of visible names to leave out.'; '--pair-regex' = 'Its groups (or group ''key'') in the relative path are the key.'; '--pair-by' = 'Match by key, by sorted place, or by times in names.'; '--time-format' = 'Of the times in names, such as %Y%m%d_%H%M%S_%f.'; '--max-gap' = 'Between two frames of a pair by time.'; '--offset' = 'Added to infrared times.'; '--unpaired' = 'What to do about files without a partner.'; '--out' = 'Folder; or a file for one item, or - for stdout.'; '-o' = 'Folder; or a file for one item, or - for stdout.'; '--overwrite' = 'Replace what exists.'; '--resume' = 'Redo only what is missing or has changed.'; '--checksum' = 'Compare inputs by content, not by time.'; '--manifest' = 'Record of the run: a file, none, or auto: OUT/.fusecli/manifest.jsonl.'; '--name' = 'Stem of each result; fields: key, stem, parent, model, index.'; '--format' = 'auto keeps TIFF for TIFF and float results, else PNG.'; '--fixed' = 'The side that stays; the other moves.'; '--per' = 'folder: one transform for all pairs, a fixed rig.'; '--save-field' = 'Write every transform as a field too.'; '--save-mask' = 'Also write OUT/.mask/KEY.png.'; '--preview' = 'Also write OUT/.preview/KEY.png.'; '--metadata' = 'EXIF, XMP, ICC and GeoTIFF tags.'; '--quality' = 'Of JPEG and WebP.'; '--jobs' = 'Reading and writing threads.'; '-j' = 'Reading and writing threads.'; '--device' = 'auto, cpu, cuda, cuda:N (several with commas), mps.'; '--precision' = 'Of networks.'; '--seed' = 'For anything random.'; '--shard' = 'The I-th of N disjoint parts; slurm takes both from the job array.'; '--backend' = 'Of joblib: threading, loky (processes), dask, ray or another one.'; '--chunk' = 'Pairs sent to another process at a time.'; '--fail-fast' = 'Stop at the first failure.'; '--dry-run' = 'List what would be done; write nothing.'; '-n' = 'List what would be done; write nothing.'; '--json' = 'One JSON document on stdout.'; '--print' = 'Each written path on stdout.'; '--print0' = 'The same, NUL-separated.'; '--progress' = 'On standard error.'; '--quiet' = 'Errors only.'; '-q' = 'Errors only.'; '--verbose' = 'More detail; -vv adds tracebacks.'; '-v' = 'More detail; -vv adds tracebacks.'; '--config' = 'TOML file with defaults.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'warp' = [ordered]@{ '--kind' = 'mixed is affine with elastic, and the default of the ReCoNet presets.'; '--preset' = 'Sets every magnitude below: mild, medium, severe, reconet-easy, reconet-normal, reconet-hard.'; '--shift' = 'Along each axis.'; '--rotate' = 'About the centre.'; '--scale' = 'Growth or shrinkage.'; '--shear' = 'Lean of the y axis.'; '--perspective' = 'Moves of the corners, as a fraction of the side.'; '--elastic-alpha' = 'Largest elastic displacement.'; '--elastic-sigma' = 'Its smoothness.'; '--interpolation' = 'Of pixels between pixels.'; '--border' = 'What is beyond the image that moves.'; '--fill' = 'Stored value there, for constant.'; '--recursive' = 'Descend into folders.'; '-r' = 'Descend into folders.'; '--pairs' = 'Pair list (.csv, .tsv, .jsonl, - for stdin) with columns ir, vis and optionally name, in place of IR and VIS.'; '--limit' = 'Stop after the first N pairs by key.'; '--ir-suffix' = 'End of infrared names to leave out.'; '--vis-suffix' = 'End of visible names to leave out.'; '--pair-regex' = 'Its groups (or group ''key'') in the relative path are the key.'; '--pair-by' = 'Match by key, by sorted place, or by times in names.'; '--time-format' = 'Of the times in names, such as %Y%m%d_%H%M%S_%f.'; '--max-gap' = 'Between two frames of a pair by time.'; '--offset' = 'Added to infrared times.'; '--unpaired' = 'What to do about files without a partner.'; '--out' = 'Folder; or a file for one item, or - for stdout.'; '-o' = 'Folder; or a file for one item, or - for stdout.'; '--overwrite' = 'Replace what exists.'; '--resume' = 'Redo only what is missing or has changed.'; '--checksum' = 'Compare inputs by content, not by time.'; '--manifest' = 'Record of the run: a file, none, or auto: OUT/.fusecli/manifest.jsonl.'; '--name' = 'Stem of each result; fields: key, stem, parent, model, index.'; '--format' = 'auto keeps TIFF for TIFF and float results, else PNG.'; '--which' = 'The side that is warped; the other is copied.'; '--exact' = 'Take magnitudes as they are: draw no less.'; '--variants' = 'Warps of each image.'; '--noise' = 'Percent of the range, Gaussian.'; '--crop-valid' = 'Crop both sides to the area valid in both.'; '--link' = 'How untouched files get into OUT.'; '--save-field' = 'Write every truth as a field too.'; '--no-save-mask' = 'Write OUT/.mask/KEY.png.'; '--save-mask' = 'Write OUT/.mask/KEY.png.'; '--preview' = 'Also write OUT/.preview/KEY.png.'; '--metadata' = 'EXIF, XMP and ICC of the warped image.'; '--quality' = 'Of JPEG and WebP.'; '--jobs' = 'Reading and writing threads.'; '-j' = 'Reading and writing threads.'; '--device' = 'auto, cpu, cuda, cuda:N (several with commas), mps.'; '--precision' = 'Of networks.'; '--seed' = 'For anything random.'; '--shard' = 'The I-th of N disjoint parts; slurm takes both from the job array.'; '--backend' = 'Of joblib: threading, loky (processes), dask, ray or another one.'; '--chunk' = 'Pairs sent to another process at a time.'; '--fail-fast' = 'Stop at the first failure.'; '--dry-run' = 'List what would be done; write nothing.'; '-n' = 'List what would be done; write nothing.'; '--json' = 'One JSON document on stdout.'; '--print' = 'Each written path on stdout.'; '--print0' = 'The same, NUL-separated.'; '--progress' = 'On standard error.'; '--quiet' = 'Errors only.'; '-q' = 'Errors only.'; '--verbose' = 'More detail; -vv adds tracebacks.'; '-v' = 'More detail; -vv adds tracebacks.'; '--config' = 'TOML file with defaults.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'train' = [ordered]@{ '--out' = 'Folder of the run.'; '-o' = 'Folder of the run.'; '--model' = 'One of duet, mfeif, reconet, reconet-m-register, reconet-plus, reconet-u-register, rfn-nest, rfvif, smfnet.'; '-m' = 'One of duet, mfeif, reconet, reconet-m-register, reconet-plus, reconet-u-register, rfn-nest, rfvif, smfnet.'; '--init' = 'Weights to start from: file or name.'; '--val-ir' = 'Infrared images to validate on.'; '--val-vis' = 'Their visible partners.'; '--val-fraction' = 'Share of the pairs held back otherwise, chosen by their keys.'; '--resume' = 'Go on with the run in RUN.'; '--overwrite' = 'Replace the run in RUN.'; '--dry-run' = 'Show what would be trained; write nothing.'; '-n' = 'Show what would be trained; write nothing.'; '--set' = 'Option of the model or its recipe.'; '--stage' = 'Run this stage only, not all in turn.'; '--epochs' = 'Passes over the pairs.'; '--steps' = 'Optimiser steps, instead of epochs.'; '--max-time' = 'Save and end then: 8h, 30m, 90s.'; '--batch-size' = 'Crops in a batch.'; '--crop' = 'Edge of the crops.'; '--lr' = 'Learning rate.'; '--optimizer' = 'Of every stage.'; '--schedule' = 'constant, cosine or step:EPOCHS:FACTOR[:FLOOR].'; '--warmup' = 'Steps in which the rate rises.'; '--accumulate' = 'Batches in one optimiser step.'; '--clip-grad' = 'Largest gradient norm; 0: any.'; '--loss' = 'Weight of a loss term; repeatable.'; '--misalign' = 'none, shift:PX (moves the infrared crop), or a preset of fusecli warp (distorts the visible crop).'; '--no-augment' = 'Flip and turn the crops.'; '--augment' = 'Flip and turn the crops.'; '--eval-every' = 'Epochs between validations.'; '--save-every' = 'Epochs between checkpoints.'; '--keep' = 'Numbered checkpoints kept.'; '--log' = 'jsonl (always on) or tensorboard; repeatable.'; '--deterministic' = 'Deterministic kernels; slower.'; '--compile' = 'Compile the network with torch.compile.'; '--devices' = 'Processes, one per GPU; the same as torchrun.'; '--recursive' = 'Descend into folders.'; '-r' = 'Descend into folders.'; '--pairs' = 'Pair list (.csv, .tsv, .jsonl, - for stdin) with columns ir, vis and optionally name, in place of IR and VIS.'; '--limit' = 'Stop after the first N pairs by key.'; '--ir-suffix' = 'End of infrared names to leave out.'; '--vis-suffix' = 'End of visible names to leave out.'; '--pair-regex' = 'Its groups (or group ''key'') in the relative path are the key.'; '--pair-by' = 'Match by key, by sorted place, or by times in names.'; '--time-format' = 'Of the times in names, such as %Y%m%d_%H%M%S_%f.'; '--max-gap' = 'Between two frames of a pair by time.'; '--offset' = 'Added to infrared times.'; '--unpaired' = 'What to do about files without a partner.'; '--jobs' = 'Reading and writing threads.'; '-j' = 'Reading and writing threads.'; '--device' = 'auto, cpu, cuda, cuda:N (several with commas), mps.'; '--precision' = 'Of networks.'; '--seed' = 'For anything random.'; '--json' = 'One JSON document on stdout.'; '--print' = 'Each written path on stdout.'; '--print0' = 'The same, NUL-separated.'; '--progress' = 'On standard error.'; '--quiet' = 'Errors only.'; '-q' = 'Errors only.'; '--verbose' = 'More detail; -vv adds tracebacks.'; '-v' = 'More detail; -vv adds tracebacks.'; '--config' = 'TOML file with defaults.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'eval' = [ordered]@{ '--metrics' = 'Names (qabf), names with a convention (mi:nats), or groups: standard, purpose, targets, vifb, rfn-nest, smfnet, linfeng, liu, fast, all.'; '--reference' = 'Ground truth, for :reference metrics.'; '--targets' = 'Labelled targets: CSV, COCO JSON, or a folder of YOLO text files.'; '--target-class' = 'Classes of targets that count, or all.'; '--truth' = 'True transforms; FUSED are then folders of transforms, scored by distance.'; '--compute' = 'On the luma, or on each channel and then the mean.'; '--ir-range' = 'What becomes 0..255 in infrared images: auto, dtype, LO:HI or pLO:pHI.'; '--vis-range' = 'What becomes 0..255 in visible images: auto, dtype, LO:HI or pLO:pHI.'; '--out' = 'Report folder; else tables to stdout.'; '-o' = 'Report folder; else tables to stdout.'; '--overwrite' = 'Replace a report.'; '--table' = 'text, csv, md, latex, html; repeatable.'; '--plots' = 'none, or of box, curves, bars, radar, contact, zoom; needs the extra report.'; '--roi' = 'Region that pictures magnify.'; '--fail-under' = 'Exit 6 when the mean of any method is worse; repeatable.'; '--dry-run' = 'List what would be scored; write nothing.'; '-n' = 'List what would be scored; write nothing.'; '--recursive' = 'Descend into folders.'; '-r' = 'Descend into folders.'; '--pairs' = 'Pair list (.csv, .tsv, .jsonl, - for stdin) with columns ir, vis and optionally name, in place of IR and VIS.'; '--limit' = 'Stop after the first N pairs by key.'; '--ir-suffix' = 'End of infrared names to leave out.'; '--vis-suffix' = 'End of visible names to leave out.'; '--pair-regex' = 'Its groups (or group ''key'') in the relative path are the key.'; '--pair-by' = 'Match by key, by sorted place, or by times in names.'; '--time-format' = 'Of the times in names, such as %Y%m%d_%H%M%S_%f.'; '--max-gap' = 'Between two frames of a pair by time.'; '--offset' = 'Added to infrared times.'; '--unpaired' = 'What to do about files without a partner.'; '--jobs' = 'Images scored at the same time.'; '-j' = 'Images scored at the same time.'; '--device' = 'auto, cpu, cuda or cuda:N.'; '--json' = 'One JSON document on stdout.'; '--print' = 'Each written path on stdout.'; '--print0' = 'The same, NUL-separated.'; '--progress' = 'On standard error.'; '--quiet' = 'Errors only.'; '-q' = 'Errors only.'; '--verbose' = 'More detail; -vv adds tracebacks.'; '-v' = 'More detail; -vv adds tracebacks.'; '--config' = 'TOML file with defaults.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'export' = [ordered]@{ '--out' = 'File to write.'; '-o' = 'File to write.'; '--format' = 'Kind of file.'; '--weights' = 'File, name, or random.'; '--set' = 'Option of the model.'; '--dynamic' = 'Which sizes stay free.'; '--size' = 'Height and width where they are fixed.'; '--opset' = 'ONNX operator set.'; '--precision' = 'Of weights and activations.'; '--embed-io' = 'Take and give 8-bit values; range, tone and rounding inside.'; '--no-check' = 'Compare with torch at several sizes.'; '--check' = 'Compare with torch at several sizes.'; '--atol' = 'Allowed difference.'; '--rtol' = 'Relative to the value.'; '--overwrite' = 'Replace what exists.'; '--json' = 'One JSON document on stdout.'; '--quiet' = 'Errors only.'; '-q' = 'Errors only.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'doctor' = [ordered]@{ '--json' = 'One JSON document on stdout.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'models' = [ordered]@{ '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'models list' = [ordered]@{ '--json' = 'One JSON document on stdout.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'models show' = [ordered]@{ '--json' = 'One JSON document on stdout.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'models verify' = [ordered]@{ '--json' = 'One JSON document on stdout.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
        'models convert' = [ordered]@{ '--model' = 'The network.'; '-m' = 'The network.'; '--set' = 'Option it was trained with, where its shapes do not tell; repeatable.'; '--overwrite' = 'Replace DST.'; '--json' = 'One JSON document on stdout.'; '--help' = 'Show this message and exit.'; '-h' = 'Show this message and exit.' }
    }
    $values = @{
        'fuse --model' = @('duet', 'mfeif', 'reconet', 'reconet-plus', 'rfn-nest', 'rfvif', 'smfnet')
        'fuse -m' = @('duet', 'mfeif', 'reconet', 'reconet-plus', 'rfn-nest', 'rfvif', 'smfnet')
        'fuse --weights' = @('random')
        'fuse --batch-size' = @()
        'fuse --tile' = @('auto', 'off')
        'fuse --tile-overlap' = @()
        'fuse --align' = @('none', 'auto', 'ngf', 'ecc', 'mi', 'phase', 'feature', 'flow', 'reconet')
        'fuse --align-weights' = @()
        'fuse --on-reject' = @('identity', 'fail')
        'fuse --pairs' = @()
        'fuse --limit' = @()
        'fuse --ir-suffix' = @()
        'fuse --vis-suffix' = @()
        'fuse --pair-regex' = @()
        'fuse --pair-by' = @('key', 'order', 'time')
        'fuse --time-format' = @()
        'fuse --max-gap' = @()
        'fuse --offset' = @()
        'fuse --unpaired' = @('error', 'skip')
        'fuse --out' = @()
        'fuse -o' = @()
        'fuse --manifest' = @()
        'fuse --name' = @()
        'fuse --format' = @('auto', 'png', 'tiff', 'jpeg', 'webp', 'npy')
        'fuse --ir-range' = @('auto', 'dtype')
        'fuse --vis-range' = @('auto', 'dtype')
        'fuse --range-scope' = @('image', 'all')
        'fuse --out-dtype' = @('auto', 'uint8', 'uint16', 'float32')
        'fuse --tone' = @('model', 'clip', 'stretch')
        'fuse --chroma' = @('auto', 'keep', 'drop')
        'fuse --alpha' = @('keep', 'drop')
        'fuse --fit' = @('error', 'ir-to-vis', 'vis-to-ir')
        'fuse --grid' = @('ir', 'vis')
        'fuse --metadata' = @('keep', 'drop')
        'fuse --reader' = @('image', 'thermal')
        'fuse --compare' = @('none', 'side', 'checker', 'zoom')
        'fuse --quality' = @()
        'fuse --jobs' = @()
        'fuse -j' = @()
        'fuse --device' = @('auto', 'cpu', 'cuda', 'mps')
        'fuse --precision' = @('fp32', 'bf16', 'fp16', 'auto')
        'fuse --seed' = @()
        'fuse --shard' = @()
        'fuse --backend' = @()
        'fuse --chunk' = @()
        'fuse --progress' = @('auto', 'bar', 'plain', 'jsonl', 'none')
        'fuse --config' = @()
        'register --method' = @('auto', 'ngf', 'ecc', 'mi', 'phase', 'feature', 'flow', 'reconet')
        'register --weights' = @()
        'register --transform' = @('auto', 'translation', 'euclidean', 'similarity', 'affine', 'homography', 'dense')
        'register --init' = @()
        'register --fov-ratio' = @()
        'register --apply' = @()
        'register --max-side' = @()
        'register --min-gain' = @()
        'register --on-reject' = @('identity', 'fail')
        'register --interpolation' = @('nearest', 'linear', 'cubic')
        'register --border' = @('constant', 'replicate', 'reflect')
        'register --fill' = @()
        'register --pairs' = @()
        'register --limit' = @()
        'register --ir-suffix' = @()
        'register --vis-suffix' = @()
        'register --pair-regex' = @()
        'register --pair-by' = @('key', 'order', 'time')
        'register --time-format' = @()
        'register --max-gap' = @()
        'register --offset' = @()
        'register --unpaired' = @('error', 'skip')
        'register --out' = @()
        'register -o' = @()
        'register --manifest' = @()
        'register --name' = @()
        'register --format' = @('auto', 'png', 'tiff', 'jpeg', 'webp', 'npy')
        'register --fixed' = @('ir', 'vis')
        'register --per' = @('pair', 'folder')
        'register --save-field' = @('none', 'npz', 'flo', 'tiff')
        'register --preview' = @('none', 'checker', 'overlay', 'field')
        'register --metadata' = @('keep', 'drop')
        'register --quality' = @()
        'register --jobs' = @()
        'register -j' = @()
        'register --device' = @('auto', 'cpu', 'cuda', 'mps')
        'register --precision' = @('fp32', 'bf16', 'fp16', 'auto')
        'register --seed' = @()
        'register --shard' = @()
        'register --backend' = @()
        'register --chunk' = @()
        'register --progress' = @('auto', 'bar', 'plain', 'jsonl', 'none')
        'register --config' = @()
        'warp --kind' = @('shift', 'rigid', 'similarity', 'affine', 'perspective', 'elastic', 'mixed')
        'warp --preset' = @('mild', 'medium', 'severe', 'reconet-easy', 'reconet-normal', 'reconet-hard')
        'warp --shift' = @()
        'warp --rotate' = @()
        'warp --scale' = @()
        'warp --shear' = @()
        'warp --perspective' = @()
        'warp --elastic-alpha' = @()
        'warp --elastic-sigma' = @()
        'warp --interpolation' = @('nearest', 'linear', 'cubic')
        'warp --border' = @('constant', 'replicate', 'reflect')
        'warp --fill' = @()
        'warp --pairs' = @()
        'warp --limit' = @()
        'warp --ir-suffix' = @()
        'warp --vis-suffix' = @()
        'warp --pair-regex' = @()
        'warp --pair-by' = @('key', 'order', 'time')
        'warp --time-format' = @()
        'warp --max-gap' = @()
        'warp --offset' = @()
        'warp --unpaired' = @('error', 'skip')
        'warp --out' = @()
        'warp -o' = @()
        'warp --manifest' = @()
        'warp --name' = @()
        'warp --format' = @('auto', 'png', 'tiff', 'jpeg', 'webp', 'npy')
        'warp --which' = @('ir', 'vis')
        'warp --variants' = @()
        'warp --noise' = @()
        'warp --link' = @('copy', 'hard', 'sym')
        'warp --save-field' = @('none', 'npz', 'flo', 'tiff')
        'warp --preview' = @('none', 'grid', 'field')
        'warp --metadata' = @('keep', 'drop')
        'warp --quality' = @()
        'warp --jobs' = @()
        'warp -j' = @()
        'warp --device' = @('auto', 'cpu', 'cuda', 'mps')
        'warp --precision' = @('fp32', 'bf16', 'fp16', 'auto')
        'warp --seed' = @()
        'warp --shard' = @()
        'warp --backend' = @()
        'warp --chunk' = @()
        'warp --progress' = @('auto', 'bar', 'plain', 'jsonl', 'none')
        'warp --config' = @()
        'train --out' = @()
        'train -o' = @()
        'train --model' = @('duet', 'mfeif', 'reconet', 'reconet-m-register', 'reconet-plus', 'reconet-u-register', 'rfn-nest', 'rfvif', 'smfnet')
        'train -m' = @('duet', 'mfeif', 'reconet', 'reconet-m-register', 'reconet-plus', 'reconet-u-register', 'rfn-nest', 'rfvif', 'smfnet')
        'train --init' = @()
        'train --val-ir' = @()
        'train --val-vis' = @()
        'train --val-fraction' = @()
        'train --set' = @()
        'train --stage' = @()
        'train --epochs' = @()
        'train --steps' = @()
        'train --max-time' = @()
        'train --batch-size' = @()
        'train --crop' = @()
        'train --lr' = @()
        'train --optimizer' = @('adam', 'adamw')
        'train --schedule' = @('constant', 'cosine')
        'train --warmup' = @()
        'train --accumulate' = @()
        'train --clip-grad' = @()
        'train --loss' = @()
        'train --misalign' = @('none', 'mild', 'medium', 'severe', 'reconet-easy', 'reconet-normal', 'reconet-hard')
        'train --eval-every' = @()
        'train --save-every' = @()
        'train --keep' = @()
        'train --log' = @('jsonl', 'tensorboard')
        'train --devices' = @()
        'train --pairs' = @()
        'train --limit' = @()
        'train --ir-suffix' = @()
        'train --vis-suffix' = @()
        'train --pair-regex' = @()
        'train --pair-by' = @('key', 'order', 'time')
        'train --time-format' = @()
        'train --max-gap' = @()
        'train --offset' = @()
        'train --unpaired' = @('error', 'skip')
        'train --jobs' = @()
        'train -j' = @()
        'train --device' = @('auto', 'cpu', 'cuda', 'mps')
        'train --precision' = @('fp32', 'bf16', 'fp16', 'auto')
        'train --seed' = @()
        'train --progress' = @('auto', 'bar', 'plain', 'jsonl', 'none')
        'train --config' = @()
        'eval --metrics' = @('standard', 'purpose', 'targets', 'vifb', 'rfn-nest', 'smfnet', 'linfeng', 'liu', 'fast', 'all')
        'eval --reference' = @()
        'eval --targets' = @()
        'eval --target-class' = @('all', 'person')
        'eval --truth' = @()
        'eval --compute' = @('luma', 'rgb')
        'eval --ir-range' = @('auto', 'dtype')
        'eval --vis-range' = @('auto', 'dtype')
        'eval --out' = @()
        'eval -o' = @()
        'eval --table' = @('text', 'csv', 'md', 'latex', 'html')
        'eval --plots' = @('none', 'box', 'curves', 'bars', 'radar', 'contact', 'zoom')
        'eval --roi' = @()
        'eval --fail-under' = @()
        'eval --pairs' = @()
        'eval --limit' = @()
        'eval --ir-suffix' = @()
        'eval --vis-suffix' = @()
        'eval --pair-regex' = @()
        'eval --pair-by' = @('key', 'order', 'time')
        'eval --time-format' = @()
        'eval --max-gap' = @()
        'eval --offset' = @()
        'eval --unpaired' = @('error', 'skip')
        'eval --jobs' = @()
        'eval -j' = @()
        'eval --device' = @('auto', 'cpu', 'cuda')
        'eval --progress' = @('auto', 'bar', 'plain', 'jsonl', 'none')
        'eval --config' = @()
        'export --out' = @()
        'export -o' = @()
        'export --format' = @('onnx', 'pt2', 'safetensors')
        'export --weights' = @()
        'export --set' = @()
        'export --dynamic' = @('all', 'batch', 'hw', 'none')
        'export --size' = @()
        'export --opset' = @()
        'export --precision' = @('fp32', 'fp16')
        'export --atol' = @()
        'export --rtol' = @()
        'models convert --model' = @('duet', 'mfeif', 'reconet', 'reconet-m-register', 'reconet-plus', 'reconet-u-register', 'rfn-nest', 'rfvif', 'smfnet')
        'models convert -m' = @('duet', 'mfeif', 'reconet', 'reconet-m-register', 'reconet-plus', 'reconet-u-register', 'rfn-nest', 'rfvif', 'smfnet')
        'models convert --set' = @()
    }
    $arguments = @{
        'fuse 0' = @()
        'fuse 1' = @()
        'register 0' = @()
        'register 1' = @()
        'warp 0' = @()
        'warp 1' = @()
        'train 0' = @()
        'train 1' = @()
        'eval 0' = @()
        'eval 1' = @()
        'eval *' = @()
        'export 0' = @('duet', 'mfeif', 'reconet', 'reconet-m-register', 'reconet-plus', 'reconet-u-register', 'rfn-nest', 'rfvif', 'smfnet')
        'models show 0' = @('duet', 'mfeif', 'reconet', 'reconet-m-register', 'reconet-plus', 'reconet-u-register', 'rfn-nest', 'rfvif', 'smfnet')
        'models verify *' = @('duet', 'mfeif', 'reconet', 'reconet-m-register', 'reconet-plus', 'reconet-u-register', 'rfn-nest', 'rfvif', 'smfnet')
        'models convert *' = @()
        'models convert 1' = @()
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
