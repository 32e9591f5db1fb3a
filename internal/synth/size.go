package synth

// usualLayers is the minimum number of layers of a sized checkpoint, if they fit: the fourth is the
// first with full attention.
const usualLayers = 4

// knob is the dimension that brings a checkpoint near its size once the layers are chosen: the
// number of experts, or the intermediate size of a dense model in whole scale blocks. Bytes are
// linear in it.
type knob struct {
	to         *int
	unit, most int // its step; its largest value in steps
	free       bool
}

func (o Options) knob(d *dims) knob {
	if d.experts > 0 {
		return knob{&d.experts, 1, o.family.full.experts, o.Experts == 0}
	}
	return knob{&d.intermediate, o.BlockSize, max(o.family.full.intermediate/o.BlockSize, 1), o.Intermediate == 0}
}

// fit chooses the layers, the knob and the vocabulary of d so that the data is near o.Size, except
// for what the options specify.
func (o Options) fit(d *dims) error {
	if o.Vocab == 0 {
		// In proportion, so that tensors that only move have the same share of the bytes as in the
		// release.
		_, whole := o.measure(o.family.full)
		share := float64(o.family.full.vocab) * min(float64(o.Size)/float64(whole), 1)
		d.vocab = max(int(share)/256*256, minVocab)
	}
	k := o.knob(d)
	switch {
	case o.Layers > 0 && !k.free:
		return usage("--size", "nothing is left to choose, the layers and their size are given")
	case !k.free:
		return o.fitLayers(d)
	case o.Layers > 0:
		if n := o.steps(d, k); n >= 1 {
			*k.to = n * k.unit
			return nil
		}
		return o.tooSmall(d, k)
	}
	d.layers = usualLayers
	for d.layers > 1 && o.steps(d, k) < 1 {
		d.layers--
	}
	for o.steps(d, k) > k.most {
		d.layers++
		if d.layers > maxLayers {
			return usage("--size", "%d bytes would need more than %d layers", o.Size, maxLayers)
		}
	}
	n := o.steps(d, k)
	if n < 1 {
		return o.tooSmall(d, k)
	}
	*k.to = n * k.unit
	return nil
}

// steps returns the value of the knob, in its unit, that brings the data nearest to o.Size; it may
// be less than 1.
func (o Options) steps(d *dims, k knob) int {
	*k.to = k.unit
	_, one := o.measure(*d)
	*k.to = 2 * k.unit
	_, two := o.measure(*d)
	step := two - one
	if step <= 0 { // beyond maxBytes
		return 0
	}
	above := o.Size - one + step/2
	if above < 0 {
		return 0
	}
	return int(min(above/step, maxDim)) + 1
}

// fitLayers chooses only the layers.
func (o Options) fitLayers(d *dims) error {
	d.layers = 1
	_, at := o.measure(*d)
	if at > o.Size+o.Size/10 {
		return usage("--size", "%d bytes is too small, one layer makes it %d (%s)", o.Size, at, d)
	}
	for at < o.Size && d.layers < maxLayers {
		d.layers++
		_, next := o.measure(*d)
		if next-o.Size > o.Size-at {
			d.layers--
			break
		}
		at = next
	}
	return nil
}

func (o Options) tooSmall(d *dims, k knob) error {
	*k.to = k.unit
	_, least := o.measure(*d)
	return usage("--size", "%d bytes is too small for the true dimensions, which need %d; leave it out for a checkpoint of about 40 MB with reduced ones", o.Size, least)
}

// measure returns the numbers of tensors and bytes of a model without naming the tensors. Beyond
// maxBytes it returns maxBytes + 1.
func (o Options) measure(d dims) (tensors int, bytes int64) {
	for _, p := range o.family.parts(o, d) {
		for _, s := range p.rows {
			n := p.times() * s.times()
			for _, t := range o.derive(s) {
				tensors += n
				if b := t.bytes(); n > 0 && b > (maxBytes-bytes)/int64(n) {
					bytes = maxBytes + 1
				} else {
					bytes += int64(n) * b
				}
			}
		}
	}
	return tensors, bytes
}
