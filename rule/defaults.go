package rule

import (
	"reflect"
)

// WithDefaults returns a copy of r in which every absent field has the value it reads as: namespace default,
// mode enforce, and the defaults of its kind. The copy shares nothing with r. Of a rule that is not valid it
// completes what it can.
func (r Rule) WithDefaults() Rule { return completed(r) }

func completed[T any](v T) T {
	return complete(reflect.ValueOf(v), false, 0).Interface().(T)
}

// complete copies v deeply and fills in defaults. Only a match that contains itself is ever deeper than
// maxDepth, and Validate refuses that.
func complete(v reflect.Value, alone bool, depth int) reflect.Value {
	if depth > maxDepth {
		return v
	}
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		p := reflect.New(v.Type().Elem())
		p.Elem().Set(complete(v.Elem(), false, depth+1))
		return p
	case v.Kind() == reflect.Slice && !v.IsNil():
		s := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			s.Index(i).Set(complete(v.Index(i), v.Len() == 1, depth+1))
		}
		return s
	case v.Kind() == reflect.Map && !v.IsNil():
		m := reflect.MakeMapWithSize(v.Type(), v.Len())
		for key, value := range v.Seq2() {
			m.SetMapIndex(key, complete(value, false, depth+1))
		}
		return m
	case isObject(v.Type()):
		return completeObject(v, alone, depth)
	}
	return v
}

func completeObject(v reflect.Value, alone bool, depth int) reflect.Value {
	p := reflect.New(v.Type())
	if r, ok := p.Interface().(*Rule); ok {
		r.Spec = v.Interface().(Rule).completedSpec(depth)
	}
	for _, f := range fieldsOf(v.Type()) {
		text, has := f.fallback(alone)
		switch to := p.Elem().Field(f.index); {
		case to.Kind() == reflect.Interface: // the spec, above
		case has && absent(v.Field(f.index), f):
			new(decoder).value(scalar(text), to, f.name, false)
		default:
			to.Set(complete(v.Field(f.index), false, depth+1))
		}
	}
	if c, ok := p.Interface().(interface{ complete() }); ok {
		c.complete()
	}
	return p.Elem()
}

// completedSpec leaves a spec that is not one of this package as it is.
func (r Rule) completedSpec(depth int) Spec {
	if r.Spec == nil || !r.fits() {
		return r.Spec
	}
	return complete(reflect.ValueOf(r.Spec), false, depth+1).Interface().(Spec)
}
