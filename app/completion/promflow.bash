# Completion of promflow for bash: source <(promflow completion bash)
_promflow() {
	mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1)
}
# Where promflow knows nothing, files are offered.
complete -o default -F _promflow promflow
