package driver

import (
	"errors"
	"testing"

	"promflow/capture/nettest"
)

func TestFeaturesOf(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	for name, xdp := range map[string]bool{"lo": false, "a0": true} {
		var got Features
		index := here.Interface(name).Index
		err := here.Do(func() (err error) { got, err = FeaturesOf(index); return err })
		if errors.Is(err, errors.ErrUnsupported) {
			nettest.KernelLacks(t, "Linux 6.3, which tells of drivers")
		}
		if err != nil || got.XDP != xdp || got.Tags && !xdp {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if err := here.Do(func() error { _, err := FeaturesOf(12345); return err }); err == nil {
		t.Error("an interface that does not exist has features")
	}
}
