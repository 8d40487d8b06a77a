#compdef promflow
# Completion of promflow for zsh: source <(promflow completion zsh), once compinit has run
_promflow() {
	local -a found
	local line
	for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		[[ -n $line ]] && found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	# Where promflow knows nothing, files are offered.
	if ((${#found})); then
		_describe -V promflow found
	else
		compset -P '*='
		_files
	fi
}
if [[ ${funcstack[1]} == _promflow ]]; then
	_promflow "$@"
else
	compdef _promflow promflow
fi
