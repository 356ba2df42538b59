package bench

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// The parts of a report about several nodes and their table.

func (r *Report) writeLink(b *strings.Builder) {
	x := r.Link
	if x == nil {
		return
	}
	fmt.Fprintf(b, "A message of %d bytes to %d connections at the other node: %v bytes on the link, %s times the message (%d messages;\n"+
		"the backend's node sent %s bytes a second while idle, which are not taken off).\n\n", x.Size, x.Conns, x.Bytes,
		compact(x.Bytes.Median/float64(x.Size)), x.Broadcasts, compact(x.Idle))
}

func (r *Report) writeTables(b *strings.Builder) {
	if len(r.Tables) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "states\tbytes each\tlook-up\tof states in use\ta word of memory\tallocations\tsnapshot taken in\tits size\trestored in")
	for _, x := range r.Tables {
		if len(x.Stalls) == 0 {
			fmt.Fprintf(t, "%d\t%s\t%v ns\t%v ns\t%v ns\t%s\t\t\t\n", x.States, compact(x.Bytes), x.Lookup, x.LookupHot, x.Miss, compact(x.LookupAllocations))
			continue
		}
		fmt.Fprintf(t, "%d\t%s\t%v ns\t%v ns\t%v ns\t%s\t%v ms\t%s MiB\t%v s\n", x.States, compact(x.Bytes), x.Lookup, x.LookupHot, x.Miss, compact(x.LookupAllocations),
			x.Snapshot, compact(float64(x.SnapshotBytes)/(1<<20)), x.Restore)
	}
	t.Flush()
	b.WriteString("\n")
	fmt.Fprintln(t, "states\tcommands per entry\tlongest apply beside a snapshot\tmedian\tlongest without")
	for _, x := range r.Tables {
		for _, s := range x.Stalls {
			fmt.Fprintf(t, "%d\t%d\t%v ms\t%v ms\t%v ms\n", x.States, s.Commands, s.Longest, s.Median, s.Alone)
		}
	}
	t.Flush()
	b.WriteString("\n")
}
