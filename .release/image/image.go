package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who promflow is in the image.
const user = 65532

// Numbers of capabilities, as linux/capability.h has them.
const (
	capNetRaw = 13
	capBPF    = 39
)

// archive is an OCI image layout (https://github.com/opencontainers/image-spec/blob/main/image-layout.md) in the making.
type archive struct {
	files []file
	blobs map[digest.Digest]bool
}

// add keeps a blob, and describes it.
func (a *archive) add(mediaType string, content []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	if !a.blobs[d.Digest] {
		a.blobs[d.Digest] = true
		a.files = append(a.files, file{path: path.Join(v1.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded()), content: content})
	}
	return d
}

// writeArchive writes the image, and says of each architecture how large it is and what its digest.
func writeArchive(output, name string, of stamp, architectures []string, programs map[string][]byte) (said []string, err error) {
	a := &archive{blobs: map[digest.Digest]bool{}}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, architecture := range architectures {
		m, said1, err := a.addImage(of, architecture, programs[architecture])
		if err != nil {
			return nil, err
		}
		index.Manifests = append(index.Manifests, m)
		said = append(said, said1)
	}
	all := a.add(v1.MediaTypeImageIndex, encode(index))
	all.Annotations = map[string]string{v1.AnnotationRefName: name + ":" + of.tag()}
	said = append(said, fmt.Sprintf("%-12s %s", "all", all.Digest))
	a.files = append(a.files,
		file{path: v1.ImageIndexFile, content: encode(v1.Index{Versioned: index.Versioned, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{all}})},
		file{path: v1.ImageLayoutFile, content: encode(v1.ImageLayout{Version: v1.ImageLayoutVersion})})
	packed, err := pack(a.files, of)
	if err != nil {
		return nil, err
	}
	return said, os.WriteFile(output, packed, 0o644)
}

// addImage adds the image for an architecture.
func (a *archive) addImage(of stamp, architecture string, program []byte) (v1.Descriptor, string, error) {
	certificates, err := roots()
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	layer, err := pack([]file{
		{path: "etc/"},
		{path: "etc/group", content: fmt.Appendf(nil, "promflow:x:%d:\n", user)},
		{path: "etc/passwd", content: fmt.Appendf(nil, "promflow:x:%d:%d:promflow:/:/promflow\n", user, user)},
		{path: "etc/ssl/"},
		{path: "etc/ssl/certs/"},
		{path: "etc/ssl/certs/ca-certificates.crt", content: certificates},
		{path: "promflow", content: program, executable: true},
		{path: "var/"},
		{path: "var/lib/"},
		{path: "var/lib/promflow/", private: true}, // a volume that is first mounted there is as it is
	}, of)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	var compressed bytes.Buffer
	z, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	if _, err := z.Write(layer); err != nil {
		return v1.Descriptor{}, "", err
	}
	if err := z.Close(); err != nil {
		return v1.Descriptor{}, "", err
	}
	labels := map[string]string{
		v1.AnnotationTitle:       "promflow",
		v1.AnnotationDescription: "Counts the bytes that every IP address moves through a network interface",
		v1.AnnotationVersion:     of.version,
		v1.AnnotationRevision:    of.commit,
		v1.AnnotationCreated:     of.date.Format("2006-01-02T15:04:05Z"),
		v1.AnnotationLicenses:    "Apache-2.0",
	}
	platform := v1.Platform{OS: "linux", Architecture: architecture}
	if architecture == "arm" {
		platform.Variant = "v7"
	}
	config := a.add(v1.MediaTypeImageConfig, encode(v1.Image{
		Created:  &of.date,
		Platform: platform,
		Config: v1.ImageConfig{
			User:         fmt.Sprintf("%d:%d", user, user),
			ExposedPorts: map[string]struct{}{"9088/tcp": {}},
			Entrypoint:   []string{"/promflow"},
			Labels:       labels,
		},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
		History: []v1.History{{Created: &of.date, CreatedBy: ".release/image/build.sh"}},
	}))
	manifest := a.add(v1.MediaTypeImageManifest, encode(v1.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   v1.MediaTypeImageManifest,
		Config:      config,
		Layers:      []v1.Descriptor{a.add(v1.MediaTypeImageLayerGzip, compressed.Bytes())},
		Annotations: labels,
	}))
	manifest.Platform = &platform
	return manifest, fmt.Sprintf("%-12s %s, %.1f MB, %.1f MB unpacked", "linux/"+architecture, manifest.Digest,
		float64(compressed.Len())/1e6, float64(len(layer))/1e6), nil
}

// roots gives the certificates of Mozilla's list that nothing restricts, in PEM.
func roots() ([]byte, error) {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue // a file cannot say for what it is trusted
		}
		if err := pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	return all.Bytes(), nil
}

// file is one in a tar archive, or with a slash at its end a folder.
type file struct {
	path       string
	content    []byte
	executable bool // and may capture
	private    bool // promflow's alone
}

// pack makes a tar archive that has nothing of the machine in it. What is not private is root's.
func pack(files []file, of stamp) ([]byte, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, f := range files {
		h := &tar.Header{Name: f.path, Mode: 0o644, Size: int64(len(f.content)), ModTime: of.date, Format: tar.FormatPAX}
		if f.path[len(f.path)-1] == '/' || f.executable {
			h.Mode = 0o755
		}
		if f.executable {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": permitted(capNetRaw, capBPF)}
		}
		if f.private {
			h.Mode, h.Uid, h.Gid = 0o700, user, user
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// permitted is the attribute security.capability of a file that gives its process these capabilities, as far as they are not ruled
// out (struct vfs_cap_data of linux/capability.h, revision 2). promflow puts them into effect itself: with the effective flag, no
// container that rules out one of them could run it.
func permitted(capabilities ...int) string {
	const revision2 = 0x02000000
	words := [5]uint32{0: revision2} // permitted and inheritable of the lower 32, then of the upper
	for _, c := range capabilities {
		words[1+2*(c/32)] |= 1 << (c % 32)
	}
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return string(b)
}

// encode gives JSON that is the same for the same value.
func encode(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // these types are made to be encoded
	}
	return slices.Concat(b, []byte("\n"))
}
