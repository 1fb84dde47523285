package audit

import "slices"

// AppendEach is as Append of each, in one transaction: all are stored or none, and
// after an error each is counted as refused for it. It keeps none of es, and changes
// none.
func (s *Store) AppendEach(es []Event) error {
	if len(es) == 0 {
		return nil
	}
	return s.append(&request{events: slices.Clone(es), entries: make([]entry, len(es)), counted: true})
}
