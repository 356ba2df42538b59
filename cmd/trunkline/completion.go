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
	path   string // "apps secret"
	words  []string
	values []flagValues // of the flags among them that take one
}

// flagValues are what a flag takes; none: anything, a file perhaps.
type flagValues struct {
	flag   string // "--tls"
	values []string
}

func followers(n *kong.Node, path []string) []follower {
	var words []string
	var values []flagValues
	for _, child := range n.Children {
		if !child.Hidden {
			words = append(words, child.Name)
		}
	}
	for _, group := range n.AllFlags(true) {
		for _, flag := range group {
			words = append(words, "--"+flag.Name)
			if !flag.IsBool() {
				values = append(values, flagValues{"--" + flag.Name, choices(flag.Value)})
			}
		}
	}
	for _, arg := range n.Positional {
		words = append(words, choices(arg)...)
	}
	out := []follower{{strings.Join(path, " "), words, values}}
	for _, child := range n.Children {
		if !child.Hidden {
			out = append(out, followers(child, append(slices.Clone(path), child.Name))...)
		}
	}
	return out
}

func choices(v *kong.Value) []string {
	return slices.DeleteFunc(v.EnumSlice(), func(s string) bool { return s == "" })
}

func bashScript(b *strings.Builder, table []follower) {
	b.WriteString(`_trunkline() {
  local path="" word i cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD - 1]}"
  [[ "$prev" == "=" ]] && prev="${COMP_WORDS[COMP_CWORD - 2]}"
  [[ "$cur" == "=" ]] && cur=""
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
	b.WriteString("  esac\n  case \"$path $prev\" in\n")
	for _, f := range table {
		for _, v := range f.values {
			fmt.Fprintf(b, "    %q) words=%q ;;\n", f.path+" "+v.flag, strings.Join(v.values, " "))
		}
	}
	b.WriteString(`  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
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
				fmt.Fprintf(b, "complete -c trunkline -n '__trunkline_at \"%s\"' -l %s%s\n", f.path, flag, fishValues(f, word))
				continue
			}
			fmt.Fprintf(b, "complete -c trunkline -n '__trunkline_at \"%s\"' -a %s\n", f.path, word)
		}
	}
}

// fishValues says what may follow a flag.
func fishValues(f follower, flag string) string {
	i := slices.IndexFunc(f.values, func(v flagValues) bool { return v.flag == flag })
	switch {
	case i < 0:
		return ""
	case len(f.values[i].values) == 0:
		return " -r -F"
	}
	return " -x -a '" + strings.Join(f.values[i].values, " ") + "'"
}
