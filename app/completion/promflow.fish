# Completion of promflow for fish: promflow completion fish | source
function __promflow_complete
	set -l words (commandline -opc)
	set -l current (commandline -ct)
	set -l found ($words[1] __complete $words[2..] "$current" 2>/dev/null)
	# Where promflow knows nothing, files are offered.
	if set -q found[1]
		printf '%s\n' $found
	else
		set -l flag (string match -r -- '^-[^=]*=' $current)
		for file in (__fish_complete_path (string replace -- "$flag" '' $current))
			echo "$flag$file"
		end
	end
end
complete -c promflow -f -a '(__promflow_complete)'
