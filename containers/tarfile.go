package containers

import (
	"archive/tar"
	"io"
	"strings"
)

// tarFile is one entry of an archive that this package makes in memory. A name
// that ends in "/" is a folder.
type tarFile struct {
	name string
	data []byte
	body io.Reader         // instead of data, for what is too large to hold; size says how much
	size int64             // bytes of body
	mode int64             // zero: 0644
	pax  map[string]string // extra PAX records
}

func (f tarFile) write(w *tar.Writer) error {
	h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg, PAXRecords: f.pax}
	if h.Mode == 0 {
		h.Mode = 0o644
	}
	if strings.HasSuffix(f.name, "/") {
		h.Typeflag = tar.TypeDir
	}
	if f.body != nil {
		h.Size = f.size
	}
	if f.pax != nil {
		h.Format = tar.FormatPAX
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if f.body != nil {
		_, err := io.CopyN(w, f.body, f.size)
		return err
	}
	_, err := w.Write(f.data)
	return err
}
