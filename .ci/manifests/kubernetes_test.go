package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const kubernetes = "../../examples/kubernetes"

// decode gives the objects of a manifest. Kinds and fields that the API does not have, and fields that are there twice, are errors.
func decode(manifest []byte) (objects []runtime.Object, err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{apps.AddToScheme, core.AddToScheme, rbac.AddToScheme, monitoring.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", kind, err)
		}
		objects = append(objects, object)
	}
}

// build gives what "kubectl apply -k" applies.
func build(folder string) ([]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return nil, err
	}
	return resources.AsYaml()
}

func TestKubernetesManifests(t *testing.T) {
	built, err := build(kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	manifests := map[string][]byte{"what kustomize builds": built}
	files, err := filepath.Glob(kubernetes + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		if manifests[file], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	for name, manifest := range manifests {
		t.Run(filepath.Base(name), func(t *testing.T) {
			objects, err := decode(manifest)
			if err != nil {
				t.Fatal(err)
			}
			if len(objects) == 0 {
				t.Error("it has no object")
			}
			for _, object := range objects {
				t.Logf("%T", object)
			}
		})
	}
}

// TestKubernetesReferences follows labels and names of ports from one object to another, which the types know nothing of.
func TestKubernetesReferences(t *testing.T) {
	var objects []runtime.Object
	for _, name := range []string{"daemonset.yaml", "podmonitor.yaml", "collector-access.yaml"} {
		manifest, err := os.ReadFile(filepath.Join(kubernetes, name))
		if err != nil {
			t.Fatal(err)
		}
		more, err := decode(manifest)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, more...)
	}
	var (
		daemons *apps.DaemonSet
		monitor *monitoring.PodMonitor
		binding *rbac.ClusterRoleBinding
		spaces  = map[string]bool{}
		named   = map[string]bool{} // accounts and roles, as bindings name them
	)
	for _, object := range objects {
		switch o := object.(type) {
		case *apps.DaemonSet:
			daemons = o
		case *monitoring.PodMonitor:
			monitor = o
		case *core.Namespace:
			spaces[o.Name] = true
		case *core.ServiceAccount:
			named["ServiceAccount "+o.Namespace+"/"+o.Name] = true
		case *rbac.ClusterRole:
			named["ClusterRole "+o.Name] = true
		case *rbac.ClusterRoleBinding:
			binding = o
		}
	}
	if daemons == nil || monitor == nil || binding == nil {
		t.Fatalf("DaemonSet %v, PodMonitor %v, ClusterRoleBinding %v", daemons, monitor, binding)
	}
	account := binding.Subjects[0]
	if !named[binding.RoleRef.Kind+" "+binding.RoleRef.Name] || !named[account.Kind+" "+account.Namespace+"/"+account.Name] || !spaces[account.Namespace] {
		t.Errorf("%+v is given %+v, there are %v in %v", account, binding.RoleRef, named, spaces)
	}
	pods := labels.Set(daemons.Spec.Template.Labels)
	for of, selects := range map[string]*meta.LabelSelector{"DaemonSet": daemons.Spec.Selector, "PodMonitor": &monitor.Spec.Selector} {
		selector, err := meta.LabelSelectorAsSelector(selects)
		if err != nil {
			t.Fatal(err)
		}
		if selector.Empty() || !selector.Matches(pods) {
			t.Errorf("%s selects %v, pods have %v", of, selector, pods)
		}
	}
	if !spaces[daemons.Namespace] || !spaces[monitor.Namespace] {
		t.Errorf("namespaces %q and %q, there are %v", daemons.Namespace, monitor.Namespace, spaces)
	}
	container := daemons.Spec.Template.Spec.Containers[0]
	ports := map[string]bool{}
	for _, p := range container.Ports {
		ports[p.Name] = true
	}
	for _, name := range []string{
		container.LivenessProbe.HTTPGet.Port.StrVal, container.ReadinessProbe.HTTPGet.Port.StrVal, *monitor.Spec.PodMetricsEndpoints[0].Port,
	} {
		if !ports[name] {
			t.Errorf("a probe or scrape of port %q, there are %v", name, ports)
		}
	}
}

// commented are lines of YAML in a manifest that are comments: prose begins with a capital letter.
var commented = regexp.MustCompile(`(?m)^( *)# ((?:  )*[-a-z].*)$`)

// TestKubernetesSubnetsInAConfigMap has the manifest as it is once somebody uncomments the ConfigMap.
func TestKubernetesSubnetsInAConfigMap(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join(kubernetes, "daemonset.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := decode(commented.ReplaceAll(manifest, []byte("$1$2")))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{} // as settings name them
	for _, object := range objects {
		subnets, ok := object.(*core.ConfigMap)
		if !ok {
			continue
		}
		for _, other := range objects {
			daemons, ok := other.(*apps.DaemonSet)
			if !ok || daemons.Namespace != subnets.Namespace {
				continue
			}
			for _, volume := range daemons.Spec.Template.Spec.Volumes {
				for _, mount := range daemons.Spec.Template.Spec.Containers[0].VolumeMounts {
					if volume.ConfigMap != nil && volume.ConfigMap.Name == subnets.Name && mount.Name == volume.Name && mount.SubPath == "" {
						for key := range subnets.Data {
							files["@"+mount.MountPath+"/"+key] = true
						}
					}
				}
			}
		}
	}
	if want := "@/etc/promflow/subnets"; !files[want] || !strings.Contains(string(manifest), strconv.Quote(want)) {
		t.Errorf("what is mounted is %v, want %s, and a comment that says so", files, want)
	}
}

// TestKubernetesWebConfigFromASecret has the kustomization as it is once somebody uncomments the component. The kubelet's own requests
// have no password.
func TestKubernetesWebConfigFromASecret(t *testing.T) {
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(kubernetes)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "kustomization.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^# (components:\n)#( +- web-config\b)`)
	if !commented.Match(text) {
		t.Fatal("the kustomization has no component that is a comment")
	}
	if err := os.WriteFile(file, commented.ReplaceAll(text, []byte("$1 $2")), 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := build(folder)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := decode(built)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		daemons, ok := object.(*apps.DaemonSet)
		if !ok {
			continue
		}
		pod := daemons.Spec.Template.Spec
		container := pod.Containers[0]
		for name, probe := range map[string]*core.Probe{"liveness": container.LivenessProbe, "readiness": container.ReadinessProbe} {
			if probe == nil || probe.HTTPGet != nil || probe.Exec == nil {
				t.Errorf("%s probe %+v, want one without a request of the kubelet's", name, probe)
			}
		}
		files := map[string]bool{}
		for _, volume := range pod.Volumes {
			for _, mount := range container.VolumeMounts {
				if volume.Secret != nil && mount.Name == volume.Name && mount.SubPath == "" {
					files[mount.MountPath+"/web.yml"] = true
				}
			}
		}
		for _, variable := range container.Env {
			if variable.Name == "PROMFLOW_WEB_CONFIG_FILE" && files[variable.Value] {
				return
			}
		}
		t.Errorf("variables %v, mounted are %v", container.Env, files)
	}
}

func TestKubernetesMistakes(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join(kubernetes, "daemonset.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ mistake, from, to, want string }{
		{"an unknown field", "hostNetwork: true", "hostNetwrk: true", `unknown field "spec.template.spec.hostNetwrk"`},
		{"a field in the wrong place", "              drop: [ALL]", "              dropped: [ALL]", `unknown field`},
		{"a field that is there twice", "hostNetwork: true", "hostNetwork: true\n      hostNetwork: true", `already set`},
		{"an unknown kind", "kind: DaemonSet", "kind: DeamonSet", `no kind "DeamonSet"`},
		{"an unknown version", "apiVersion: apps/v1", "apiVersion: apps/v7", `apps/v7`},
		{"a value of the wrong type", "hostPort: 9088", `hostPort: "9088"`, `hostPort`},
	} {
		t.Run(c.mistake, func(t *testing.T) {
			wrong := strings.Replace(string(manifest), c.from, c.to, 1)
			if wrong == string(manifest) {
				t.Fatalf("the manifest has no %q", c.from)
			}
			if _, err := decode([]byte(wrong)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestKustomizeMistakes(t *testing.T) {
	for _, c := range []struct{ mistake, from, to, want string }{
		{"an unknown field", "resources:", "resource:", "unknown field"},
		{"a file that is not there", "- daemonset.yaml", "- deamonset.yaml", "deamonset.yaml"},
	} {
		t.Run(c.mistake, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.CopyFS(folder, os.DirFS(kubernetes)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(folder, "kustomization.yaml")
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(strings.Replace(string(text), c.from, c.to, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := build(folder); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
