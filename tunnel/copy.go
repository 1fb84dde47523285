package tunnel

import "io"

// WriteTo is io.WriterTo's, for io.Copy: what arrives is passed on in one piece, with
// no buffer between. As with Read, an end that the other side made is no error.
func (s *stream) WriteTo(w io.Writer) (total int64, err error) {
	for {
		c, err := s.take()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(c.data)
		total += int64(n)
		s.link.bufs.put(c)
		if err != nil {
			return total, err
		}
	}
}

// take is what Read would read next, all of it.
func (s *stream) take() (chunk, error) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	if err := ready(s.closed, &s.readTill); err != nil {
		return chunk{}, s.opError("read", err)
	}
	if c := s.rest; len(c.data) > 0 {
		s.rest = chunk{}
		return c, nil
	}
	return s.arrived()
}

// ReadFrom is io.ReaderFrom's, for io.Copy: it writes what r has, read into buffers
// that the SSH connection can take as they are. It does not interrupt r: who closes
// the stream has to close r too, as with io.Copy.
func (s *stream) ReadFrom(r io.Reader) (total int64, err error) {
	size := 0
	for {
		c := s.link.bufs.get(size)
		n, rerr := r.Read(*c.buf)
		size = sizeAfter(size, n)
		c.data = (*c.buf)[:n]
		if err := s.give(c); err != nil {
			return total, err
		}
		total += int64(n)
		if rerr == io.EOF {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
}

// give writes c, and puts it back.
func (s *stream) give(c chunk) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if err := s.writable(); err != nil {
		s.link.bufs.put(c)
		return err
	}
	if len(c.data) == 0 {
		s.link.bufs.put(c)
		return nil
	}
	return s.writeChunk(c)
}
