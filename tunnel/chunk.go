package tunnel

import "sync"

// chunkSizes are the sizes of chunks. A waiting stream holds a small one, and one
// with much to carry bigger and bigger ones: the second is the size of SSH's packets,
// and the third is of several, since each read that takes from the window sends a
// packet that gives to it.
var chunkSizes = [...]int{4 << 10, 32 << 10, 128 << 10}

// chunk is data in a buffer that goes back to its pool.
type chunk struct {
	buf  *[]byte
	data []byte // the part of buf that is not consumed yet
}

// buffers are the chunks not in use, for all streams of a Client: a pool for each of
// chunkSizes.
type buffers [len(chunkSizes)]sync.Pool

// get returns a chunk of the size with that index.
func (b *buffers) get(size int) chunk {
	if buf, ok := b[size].Get().(*[]byte); ok {
		return chunk{buf: buf}
	}
	buf := make([]byte, chunkSizes[size])
	return chunk{buf: &buf}
}

// put takes a chunk back, which nobody must use any more.
func (b *buffers) put(c chunk) { b[sizeFor(len(*c.buf))].Put(c.buf) }

// sizeFor is the index of the smallest size that holds n bytes, or of the biggest.
func sizeFor(n int) int {
	for i, size := range chunkSizes {
		if n <= size {
			return i
		}
	}
	return len(chunkSizes) - 1
}

// sizeAfter is the index to read with next, after n bytes came into a chunk of the
// size with index i: a full one is followed by a bigger one, one that a smaller one
// would have held by such a one.
func sizeAfter(i, n int) int {
	if n == chunkSizes[i] {
		return min(i+1, len(chunkSizes)-1)
	}
	return sizeFor(n)
}
