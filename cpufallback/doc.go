// Package cpufallback is the reference backend: it runs the kernels of package kernel in Go, on machines without Metal and as the
// judge of those with it. Its results are the contract's to the bit; so are its tallies, whatever the number of workers.
//
// # Dequantization
//
// An E4M3 code has 256 values, so a scale block has at most 256 results. For each block the backend computes a table of them, with
// the float32 multiplication and the rounding of the contract; an element is then one load. The order of the work decides the
// speed, more than the lookup: block by block the rows are short strides through memory, three times slower than this package's
// sweep, which readies the tables of a whole band of blocks (the rows under one row of scales) and then walks its rows from end to
// end. Wide bands are cut into columns of blocks whose tables stay in the first cache levels.
//
// Where the scale's exponent is far from both ends of float32's range, no normal code has a subnormal or infinite product and
// equal mantissas give equal mantissas: 8 products for the subnormal codes and 8 for the others suffice, the rest steps the
// exponent field. (Results in float16 are rounded one by one all the same.) Elsewhere a table takes 127 products; the sign is mirrored
// in any case. So a table for each row of a matrix, where rows have scales of their own, costs little beside the row. Blocks too
// small to repay a table are multiplied element by element.
//
// # Transposition
//
// A transposed result is computed in a worker's memory, 32 rows of a few hundred columns at a time, and leaves it in runs of 32 elements:
// written one by one each would be a cache line, and columns a power of two apart evict each other.
//
// # Quantizing
//
// A row of a tile is dequantized to bfloat16, or taken as it is, widened into a worker's memory and handed to package mlxquant, a row of whole groups at a
// time. Groups down the columns wait in a worker's memory, 64 columns side by side, until they are complete. What a group cannot be quantized for is
// looked for, element by element, only where there is such a group.
//
// # Tallies
//
// Copies meet nothing. NaN codes are found eight at a time: adding 1 to the seven low bits of each byte carries into the eighth only from 0x7F. Only a
// row that holds one is searched for the place. Overflow needs a look at elements only in blocks whose table holds an infinity.
//
// # Vectors
//
// The loops over elements lie behind one seam, rows, chosen when a backend is made: AVX-512 with VBMI, AVX2, NEON, or Go. Each fills tables in a form of
// its own; all give the same bytes and the same findings, which tests hold against the Go code for every code by every scale in bfloat16, and fuzz. Results
// that go straight to a slot leave past the caches where they are aligned: that saves reading what is overwritten, and a window is larger than the caches.
// The build tag purego leaves Go alone.
//
// # Work
//
// Jobs are cut into tiles of some 256 Ki elements, along bands. The workers of a Run take tile after tile from one counter. A
// tile's tally names its first place in row-major order and merging keeps the least, so the order of tiles does not show.
package cpufallback
