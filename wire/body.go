package wire

import "encoding/binary"

// Limits of a registration and of a client's hello, in bytes.
const (
	MaxSecret  = 1 << 10  // an app's secret
	MaxStoreID = 256      // the name of an instance
	MaxRegion  = 64       // the name of a region
	MaxLogin   = 16 << 10 // the login configuration, JSON
	MaxHeld    = 1 << 20  // states that one registration may name
)

// RegisterBody is the Payload of a Register frame: a backend says who it is. It is followed by Hold frames with Held
// states in all.
type RegisterBody struct {
	Incarnation [16]byte // random, made when the process started
	Capacity    uint32   // states it would like to hold at most; 0 = not said
	Held        uint32   // states named in the Hold frames that follow, at most MaxHeld
	Credit      uint32   // bytes of each state that the backend takes before it gives Credit
	Secret      []byte   // 1 to MaxSecret bytes
	StoreID     []byte   // 1 to MaxStoreID bytes
	Region      []byte   // at most MaxRegion bytes; empty = the node's
	Login       []byte   // at most MaxLogin bytes of JSON; empty = says nothing about logins
}

// Append appends b's bytes to dst. A field beyond its limit panics: Check tells before.
func (b *RegisterBody) Append(dst []byte) []byte {
	must(b.Check())
	dst = append(dst, b.Incarnation[:]...)
	dst = binary.BigEndian.AppendUint32(dst, b.Capacity)
	dst = binary.BigEndian.AppendUint32(dst, b.Held)
	dst = binary.BigEndian.AppendUint32(dst, b.Credit)
	dst = appendField(dst, b.Secret)
	dst = appendField(dst, b.StoreID)
	dst = appendField(dst, b.Region)
	return appendField(dst, b.Login)
}

// Check says whether every field is within its limits: ErrTooBig, or ErrField for one that may not be empty.
func (b *RegisterBody) Check() error {
	switch {
	case len(b.Secret) > MaxSecret, len(b.StoreID) > MaxStoreID, len(b.Region) > MaxRegion, len(b.Login) > MaxLogin,
		b.Held > MaxHeld:
		return ErrTooBig
	case len(b.Secret) == 0, len(b.StoreID) == 0:
		return ErrField
	}
	return nil
}

// Decode reads the Payload of a Register frame. The slices alias p.
func (b *RegisterBody) Decode(p []byte) error {
	r := reader{b: p}
	*b = RegisterBody{
		Incarnation: r.bytes16(), Capacity: r.u32(), Held: r.u32(), Credit: r.u32(),
		Secret: r.field(), StoreID: r.field(), Region: r.field(), Login: r.field(),
	}
	if err := r.end(); err != nil {
		return err
	}
	return b.Check()
}

// RegisteredBody is the Payload of a Registered frame: the coordinator took the registration.
type RegisteredBody struct {
	Instance    InstanceID
	Gen         Gen
	HeartbeatMs uint32 // how often the backend sends a Heartbeat, in milliseconds
	Credit      uint32 // bytes of each state that the coordinator takes before it gives Credit
}

// Append appends b's bytes to dst.
func (b *RegisteredBody) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.Instance))
	dst = binary.BigEndian.AppendUint32(dst, uint32(b.Gen))
	dst = binary.BigEndian.AppendUint32(dst, b.HeartbeatMs)
	return binary.BigEndian.AppendUint32(dst, b.Credit)
}

// Decode reads the Payload of a Registered frame.
func (b *RegisteredBody) Decode(p []byte) error {
	r := reader{b: p}
	*b = RegisteredBody{Instance: InstanceID(r.u64()), Gen: Gen(r.u32()), HeartbeatMs: r.u32(), Credit: r.u32()}
	return r.end()
}

// Held is one state that a registering backend still has in memory.
type Held struct {
	State StateID
	Epoch Epoch
}

// AppendHolds appends Hold frames that name all of held.
func AppendHolds(dst []byte, held []Held) []byte {
	for len(held) > 0 {
		n := min(len(held), maxHolds)
		dst = binary.BigEndian.AppendUint32(dst, uint32(bodyStart+n*heldSize))
		dst = append(dst, byte(Hold), 0)
		for _, h := range held[:n] {
			dst = binary.BigEndian.AppendUint64(dst, uint64(h.State))
			dst = binary.BigEndian.AppendUint64(dst, uint64(h.Epoch))
		}
		held = held[n:]
	}
	return dst
}

// DecodeHolds appends the states named by the Payload of a Hold frame to dst, at most max in all: more is ErrTooBig.
// An empty payload is ErrShort.
func DecodeHolds(dst []Held, p []byte, max int) ([]Held, error) {
	if len(p) == 0 || len(p)%heldSize != 0 {
		return dst, ErrShort
	}
	if len(dst)+len(p)/heldSize > max {
		return dst, ErrTooBig
	}
	for ; len(p) > 0; p = p[heldSize:] {
		be := binary.BigEndian
		dst = append(dst, Held{State: StateID(be.Uint64(p)), Epoch: Epoch(be.Uint64(p[8:]))})
	}
	return dst, nil
}

// ConnectBody is the Payload of a Connect frame: a client says who it is and where it wants to go.
type ConnectBody struct {
	App    AppID    // zero: the audience of the token
	Stream StreamID // random, kept over reconnects (then with flag Resumed)
	Next   uint64   // the number that the client's next Data will carry; the first of a stream is 1
	Seen   uint64   // the last number received on this stream, 0 if none
	State  []byte   // the state's text form as the user gave it, at most 64 bytes
	Token  []byte   // at most MaxToken bytes
}

// Append appends b's bytes to dst. A field beyond its limit panics: Check tells before.
func (b *ConnectBody) Append(dst []byte) []byte {
	must(b.Check())
	dst = append(dst, b.App[:]...)
	dst = append(dst, b.Stream[:]...)
	dst = binary.BigEndian.AppendUint64(dst, b.Next)
	dst = binary.BigEndian.AppendUint64(dst, b.Seen)
	dst = appendField(dst, b.State)
	return appendField(dst, b.Token)
}

// Check says whether every field is within its limits.
func (b *ConnectBody) Check() error {
	if len(b.State) > maxStateText || len(b.Token) > MaxToken {
		return ErrTooBig
	}
	return nil
}

// Decode reads the Payload of a Connect frame. The slices alias p.
func (b *ConnectBody) Decode(p []byte) error {
	r := reader{b: p}
	*b = ConnectBody{App: r.bytes32(), Stream: r.bytes16(), Next: r.u64(), Seen: r.u64(), State: r.field(), Token: r.field()}
	if err := r.end(); err != nil {
		return err
	}
	return b.Check()
}

// ConnectedBody is the Payload of a Connected frame: the client's session is registered.
type ConnectedBody struct {
	State StateID // what the state's text form meant
	Next  uint64  // the number expected of the client next; it repeats what it still has from there
	Down  uint64  // the number that the first Data towards the client will carry
}

// Append appends b's bytes to dst.
func (b *ConnectedBody) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.State))
	dst = binary.BigEndian.AppendUint64(dst, b.Next)
	return binary.BigEndian.AppendUint64(dst, b.Down)
}

// Decode reads the Payload of a Connected frame.
func (b *ConnectedBody) Decode(p []byte) error {
	r := reader{b: p}
	*b = ConnectedBody{State: StateID(r.u64()), Next: r.u64(), Down: r.u64()}
	return r.end()
}

func must(err error) {
	if err != nil {
		panic("wire: " + err.Error())
	}
}

func appendField(dst, b []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(b)))
	return append(dst, b...)
}

// reader takes fields from the front of b; once b is too short it only returns zeros, and end says so.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.short = true
		r.b = nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u16() (v uint16) {
	if b := r.take(2); b != nil {
		v = binary.BigEndian.Uint16(b)
	}
	return v
}

func (r *reader) u32() (v uint32) {
	if b := r.take(4); b != nil {
		v = binary.BigEndian.Uint32(b)
	}
	return v
}

func (r *reader) u64() (v uint64) {
	if b := r.take(8); b != nil {
		v = binary.BigEndian.Uint64(b)
	}
	return v
}

func (r *reader) bytes16() (v [16]byte) {
	copy(v[:], r.take(16))
	return v
}

func (r *reader) bytes32() (v [32]byte) {
	copy(v[:], r.take(32))
	return v
}

func (r *reader) field() []byte { return r.take(int(r.u16())) }

func (r *reader) end() error {
	switch {
	case r.short:
		return ErrShort
	case len(r.b) > 0:
		return ErrTrailing
	}
	return nil
}
