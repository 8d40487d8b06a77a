package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"promflow/capture/nettest"
)

// TestShellsComplete has each shell complete lines with its script.
func TestShellsComplete(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "promflow")
	if err := os.Symlink(self(t), program); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "a file.pcap"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// Each prints what the line in $LINE becomes, a candidate on a line.
	for shell, script := range map[string]string{
		"bash": `
			source <(promflow completion bash)
			# As readline does it: words are split at "=", too.
			line=${LINE//=/ = }
			read -ra COMP_WORDS <<<"$line"
			[[ $LINE != *[\ ] ]] || COMP_WORDS+=("")
			COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
			_promflow
			if [ ${#COMPREPLY[@]} -gt 0 ]; then printf '%s\n' "${COMPREPLY[@]}"; else compgen -f "${COMP_WORDS[-1]#=}"; fi
			complete -p promflow | grep -q -e '-o default' || echo "no files"`,
		"fish": `
			promflow completion fish | source
			complete -C "$LINE" | cut -f 1`,
		"zsh": `
			autoload -Uz compinit && compinit -u -D
			source <(promflow completion zsh)
			# Completion works in a line editor only, which zpty has.
			zmodload zsh/zpty
			zpty z zsh -f -i
			{
				zpty -w z 'autoload -Uz compinit && compinit -u -D; source <(promflow completion zsh)'
				zpty -w z 'PS1=; compadd() { if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)* ]]; then builtin compadd "$@"; else local -a hits; builtin compadd -A hits "$@"; print -rl -- "<"${^hits}">"; fi }'
				zpty -w z 'complete-word-and-tell() { zle complete-word; print -r -- "END" }; zle -N complete-word-and-tell; bindkey "^I" complete-word-and-tell; print READY'
				zpty -r z out '*READY*READY*'
				zpty -n -w z "$LINE"$'\t'
				zpty -r z out '*END*'
				print -r -- "$out" | tr -d '\r' | grep -o '<[^>]*>' | tr -d '<>'
			} always {
				zpty -d z
			}`,
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			nettest.Need(t, shell)
			for _, c := range []struct {
				line string
				want []string
			}{
				{"promflow rep", []string{"replay"}},
				{"promflow --cap", []string{"--capture"}},
				{"promflow --metrics-so", []string{"--metrics-socket-mode"}},
				{"promflow --enable", []string{"--enable-lifecycle"}},
				{"promflow replay --rep", []string{"--replay-interface"}},
				{"promflow --capture eb", []string{"ebpf"}},
				{"promflow --log-format=", []string{"text", "json"}},
				{"promflow --interface lo", []string{"lo"}},
				{"promflow --packets top --sort=tot", []string{"total"}},
				{"promflow top --by=", []string{"ip", "device"}},
				{"promflow completion ", []string{"bash", "zsh", "fish"}},
				{"promflow replay a", []string{"a file.pcap"}},
				{"promflow --web-config-file=a", []string{"a file.pcap"}},
			} {
				cmd := exec.Command(shell, "-c", script)
				cmd.Dir = folder
				cmd.Env = append(os.Environ(), beProgram+"=1", "PATH="+folder+":"+os.Getenv("PATH"), "LINE="+c.line, "HOME="+folder, "TERM=xterm")
				out, err := cmd.CombinedOutput()
				if missing := lacks(string(out), c.want); missing != "" || err != nil {
					t.Errorf("%q becomes %q, %v; want %q", c.line, out, err, c.want)
				}
			}
		})
	}
	if line, _ := fails(t, promflow(t, "completion", "tcsh")); !strings.Contains(line, "bash, zsh, fish") {
		t.Errorf("%q does not say what there is", line)
	}
}

// lacks tells which candidate none of the lines ends with: a shell may complete the word or the value in it.
func lacks(lines string, candidates []string) string {
	unquoted := strings.ReplaceAll(lines, `\ `, " ")
	for _, c := range candidates {
		if !strings.Contains(unquoted+"\n", c+"\n") {
			return c
		}
	}
	return ""
}

// TestManual has the checker of man pages look for what is wrong with promflow's.
func TestManual(t *testing.T) {
	nettest.Need(t, "mandoc")
	page, err := promflow(t, "manual").Output()
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		cmd := exec.Command("mandoc", args...)
		cmd.Stdin = strings.NewReader(string(page))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("mandoc %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	run("-T", "lint", "-W", "warning")
	text := run("-T", "ascii", "-O", "width=200")
	for command, least := range map[string]int{"": 20, "replay": 8, "check": 20, "top": 10, "health": 1} {
		help, err := promflow(t, append(strings.Fields(command), "--help")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		variables := regexp.MustCompile(`\(\$PROMFLOW_\w+`).FindAllString(string(help), -1)
		if len(variables) < least {
			t.Errorf("help of %q has the variables %q only", command, variables)
		}
		for _, v := range variables {
			if !strings.Contains(text, v) {
				t.Errorf("nothing is said of %s)", v)
			}
		}
	}
}
