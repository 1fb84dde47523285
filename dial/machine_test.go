package dial

import (
	"slices"
	"testing"
)

// A Machine says what the kernel does, and what it is asked again within a second
// costs nothing; who changes what it gave out changes nothing in it.
func TestMachine(t *testing.T) {
	want, err := MachineAddresses()
	if err != nil {
		t.Fatal(err)
	}
	var m Machine
	got, err := m.Addresses()
	if err != nil || !slices.Equal(got, want) || len(got) == 0 {
		t.Fatalf("%v, %v; want %v", got, err, want)
	}
	_ = append(got, want[0])
	if again, err := m.Addresses(); err != nil || !slices.Equal(again, want) {
		t.Errorf("%v, %v; want %v", again, err, want)
	}
	m.at = m.at.Add(-machineAge)
	m.own[0] = m.own[len(m.own)-1]
	if again, err := m.Addresses(); err != nil || !slices.Equal(again, want) {
		t.Errorf("after its time: %v, %v; want %v", again, err, want)
	}
}
