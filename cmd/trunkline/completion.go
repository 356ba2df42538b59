package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Which shell."`
}

// completionHow says how each shell reads its script.
var completionHow = map[string]string{
	"bash": "# source <(trunkline completion bash)",
	"zsh":  "# source <(trunkline completion zsh), behind compinit",
	"fish": "# trunkline completion fish | source",
}

// Run prints the script: a table of what may follow each command, read off the
// grammar.
func (c *completionCommand) Run(w *world, k *kong.Kong) error {
	var b strings.Builder
	fmt.Fprintln(&b, completionHow[c.Shell])
	words := followers(k.Model.Node, nil)
	switch c.Shell {
	case "bash":
		bashScript(&b, words)
	case "zsh":
		b.WriteString("autoload -U +X bashcompinit && bashcompinit\n")
		bashScript(&b, words)
	case "fish":
		fishScript(&b, words)
	}
	if _, err := fmt.Fprint(w.stdout, b.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// follower is what may come after a path of commands.
type follower struct {
	path  string // "apps secret"
	words []string
}

func followers(n *kong.Node, path []string) []follower {
	var words []string
	for _, child := range n.Children {
		if !child.Hidden {
			words = append(words, child.Name)
		}
	}
	for _, group := range n.AllFlags(true) {
		for _, flag := range group {
			words = append(words, "--"+flag.Name)
		}
	}
	for _, arg := range n.Positional {
		words = append(words, arg.EnumSlice()...)
	}
	words = slices.DeleteFunc(words, func(s string) bool { return s == "" })
	out := []follower{{strings.Join(path, " "), words}}
	for _, child := range n.Children {
		if !child.Hidden {
			out = append(out, followers(child, append(slices.Clone(path), child.Name))...)
		}
	}
	return out
}

func bashScript(b *strings.Builder, table []follower) {
	b.WriteString(`_trunkline() {
  local path="" word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    [[ "$word" == -* ]] && continue
    case "${path:+$path }$word" in
`)
	var paths []string
	for _, f := range table {
		if f.path != "" {
			paths = append(paths, `"`+f.path+`"`)
		}
	}
	fmt.Fprintf(b, "      %s) path=\"${path:+$path }$word\" ;;\n    esac\n  done\n  local words=\"\"\n  case \"$path\" in\n", strings.Join(paths, "|"))
	for _, f := range table {
		fmt.Fprintf(b, "    %q) words=%q ;;\n", f.path, strings.Join(f.words, " "))
	}
	b.WriteString(`  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _trunkline trunkline
`)
}

func fishScript(b *strings.Builder, table []follower) {
	b.WriteString(`function __trunkline_at
  set -l path
  for word in (commandline -opc)[2..]
    string match -q -- '-*' $word; or set -a path $word
  end
  test "$path" = "$argv[1]"
end
complete -c trunkline -f
`)
	for _, f := range table {
		for _, word := range f.words {
			if flag, ok := strings.CutPrefix(word, "--"); ok {
				fmt.Fprintf(b, "complete -c trunkline -n '__trunkline_at \"%s\"' -l %s\n", f.path, flag)
				continue
			}
			fmt.Fprintf(b, "complete -c trunkline -n '__trunkline_at \"%s\"' -a %s\n", f.path, word)
		}
	}
}
