package tunnel

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

// readLegacyRegistration skips the frames that old SDKs flush before they
// register, then reads the JSON. What follows it stays in r.
func readLegacyRegistration(r *pipe.Reader, cfg *Config) (*Registration, error) {
	if err := skipFrames(r, cfg); err != nil {
		return nil, err
	}
	var scan hathora.RegistrationScanner
	for need := 1; ; {
		b, err := r.Fill(need)
		if err != nil {
			return nil, err
		}
		n, err := scan.Scan(b)
		switch {
		case errors.Is(err, hathora.ErrRegistrationTooBig):
			return nil, fail(ReasonRegistrationSize, nil)
		case errors.Is(err, hathora.ErrBareText):
			return nil, fail(ReasonBareText, nil)
		case err != nil:
			return nil, fail(ReasonRegistration, err)
		case n == 0:
			need = len(b) + 1
			continue
		}
		reg, err := legacyRegistration(b[:n])
		r.Discard(n)
		return reg, err
	}
}

func legacyRegistration(text []byte) (*Registration, error) {
	said, err := hathora.ParseRegistration(text)
	if err != nil {
		return nil, fail(ReasonRegistration, err)
	}
	reg := &Registration{
		Kind: Legacy, Secret: Secret(said.AppSecret), StoreID: said.StoreID, Named: said.StoreID != "",
		Region: said.StoreRegion, Login: said.AuthInfo,
	}
	if said.AppID != "" {
		if reg.AppID, err = wire.ParseAppID(said.AppID); err != nil {
			return nil, fail(ReasonRegistration, err)
		}
	}
	if !reg.Named {
		var id [16]byte
		rand.Read(id[:])
		reg.StoreID = "conn-" + hex.EncodeToString(id[:])
	}
	return reg, nil
}

// skipFrames drops whole frames until the next byte is not the 0x00 that every
// length begins with. Only a head is ever held, whatever the length.
func skipFrames(r *pipe.Reader, cfg *Config) error {
	for skipped := 0; ; {
		b, err := r.Fill(1)
		if err != nil {
			return err
		}
		if b[0] != 0 {
			return nil
		}
		if b, err = r.Fill(5); err != nil {
			return err
		}
		size, err := hathora.FrameSize(b)
		if err != nil {
			return fail(ReasonLength, err)
		}
		if size < 5 || b[4] > hathora.Ping {
			return fail(ReasonOldFraming, nil)
		}
		if skipped += size; skipped > cfg.MaxSkip {
			return fail(ReasonSkipped, nil)
		}
		cfg.Counters.skip(1)
		if err := discard(r, size); err != nil {
			return err
		}
	}
}

// discard drops n bytes without holding more than one read brings.
func discard(r *pipe.Reader, n int) error {
	for n > 0 {
		b, err := r.Fill(1)
		if err != nil {
			return err
		}
		m := min(n, len(b))
		r.Discard(m)
		n -= m
	}
	return nil
}

// oldLength says whether the first four bytes are a length of the framing
// before 2022, little endian.
func oldLength(b []byte) bool {
	return len(b) >= 4 && b[0] != 0 && binary.LittleEndian.Uint32(b) < maxLegacyFrame
}
