package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/trunkline-edge/trunkline/sdk"
)

type connectCommand struct {
	remote
	State     string   `arg:"" help:"The state's id, base 36. One that nobody has yet is placed by connecting."`
	App       string   `help:"App of the state; its first digits or its name will do." placeholder:"APP" default:"dev"`
	URL       []string `name:"url" help:"Where to connect: ws://HOST:PORT, wss://, tcp:// or tls://. Of several, another one when one fails. Default: what the nodes at --admin say, of which there may be several here, too." placeholder:"URL"`
	CA        string   `name:"ca" help:"Certificates in PEM to trust besides the system's. Default: the throw-away one of dev." placeholder:"FILE"`
	TokenFile string   `help:"File (mode 0600) with a token; TRUNKLINE_TOKEN holds it otherwise. Default: the node at --admin mints one." placeholder:"FILE"`
	User      string   `help:"Id of the user that the minted token is for." placeholder:"ID"`
	Timeout   span     `help:"Give up when there is no connection after this time." placeholder:"TIME" default:"10s"`
	Wait      span     `help:"How long to wait for answers when the input ends." placeholder:"TIME" default:"1s"`
}

// maxLine bounds one line of the terminal.
const maxLine = 1 << 20

// Run is a client until the input, the coordinator or a signal ends it.
func (c *connectCommand) Run(ctx context.Context, w *world) error {
	ctx, cancel := w.untilSignal(ctx)
	defer cancel()
	cfg, err := c.configure(ctx, w)
	if err != nil {
		return err
	}
	connected := make(chan struct{}, 1)
	cfg.OnMessage = func(data []byte) { _, _ = fmt.Fprintln(w.stdout, printable(data)) }
	cfg.OnConnected = func(at sdk.Connected) {
		_, _ = fmt.Fprintf(w.stderr, "connected to %s at %s\n", c.State, at.Addr)
		select {
		case connected <- struct{}{}:
		default:
		}
	}
	cfg.OnGap = func(g sdk.Gap) { _, _ = fmt.Fprintf(w.stderr, "messages may be missing: %s\n", gapWords(g)) }
	cfg.Log = slog.New(setbacks{slog.NewTextHandler(w.stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime})})
	client, err := sdk.NewClient(cfg)
	if err != nil {
		return misuse{err}
	}
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	giveUp := time.NewTimer(c.Timeout.Duration())
	defer giveUp.Stop()
	select {
	case <-connected:
	case err := <-ended:
		return c.explain(ctx, err)
	case <-giveUp.C:
		cancel()
		<-ended
		return fmt.Errorf("connect %s: no connection after %s: `trunkline instances` shows whether the app has a backend", c.State, c.Timeout)
	}
	return c.converse(ctx, cancel, client, w.stdin, ended)
}

// converse sends what is typed until the input or the client ends, and then waits
// a while for answers.
func (c *connectCommand) converse(ctx context.Context, cancel context.CancelFunc, client *sdk.Client, in io.Reader, ended <-chan error) error {
	typed := make(chan error, 1)
	go func() { typed <- sendLines(client, in) }()
	select {
	case err := <-ended:
		return c.explain(ctx, err)
	case err := <-typed:
		if err != nil {
			return err
		}
	}
	wait := time.NewTimer(c.Wait.Duration())
	defer wait.Stop()
	select {
	case <-wait.C:
		cancel()
		return c.explain(ctx, <-ended)
	case err := <-ended:
		return c.explain(ctx, err)
	}
}

// setbacks leaves out what the client logs of its connections: they are printed in words.
type setbacks struct{ slog.Handler }

// Handle passes everything else on.
func (s setbacks) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "connected" {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

// withoutTime leaves the time out of what connect logs: it is read as it happens.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}

// explain turns the client's end into what the command answers.
func (c *connectCommand) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("connect %s: %w", c.State, err)
}

// sendLines sends each line of in as one message, without its end.
func sendLines(client *sdk.Client, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	for lines.Scan() {
		if err := client.Send(lines.Bytes()); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the input: %w", err)
	}
	return nil
}

// printable answers a message as text, or quoted when it is none, so that no
// message can steer the terminal.
func printable(data []byte) string {
	if !utf8.Valid(data) {
		return strconv.Quote(string(data))
	}
	for _, r := range string(data) {
		if !unicode.IsPrint(r) && r != '\t' {
			return strconv.Quote(string(data))
		}
	}
	return string(data)
}

func gapWords(g sdk.Gap) string {
	text := "the state may have gone on without us"
	if g.From > 0 {
		text = fmt.Sprintf("numbers %d to %d", g.From, g.To)
	}
	if g.Lost > 0 {
		text += fmt.Sprintf(", and %d of ours may not have arrived", g.Lost)
	}
	return text
}
