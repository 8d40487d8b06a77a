package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"promflow/capture/nettest"
)

// pod is what a cluster tells of a pod, as far as the collector reads it.
type pod struct {
	Metadata struct {
		Name            string            `json:"name"`
		Namespace       string            `json:"namespace"`
		UID             string            `json:"uid"`
		ResourceVersion string            `json:"resourceVersion"`
		Created         time.Time         `json:"creationTimestamp"`
		Labels          map[string]string `json:"labels,omitempty"`
		Owners          []podOwner        `json:"ownerReferences,omitempty"`
	} `json:"metadata"`
	Spec struct {
		HostNetwork bool `json:"hostNetwork"`
	} `json:"spec"`
	Status podStatus `json:"status"`
}

type podOwner struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
	Controller bool   `json:"controller"`
}

type podStatus struct {
	Phase string    `json:"phase"`
	Start time.Time `json:"startTime"`
	IP    string    `json:"podIP,omitempty"`
	IPs   []podIP   `json:"podIPs,omitempty"`
}

type podIP struct {
	IP string `json:"ip"`
}

// newPod gives a running pod in the namespace shop, that was started so many minutes after the cluster.
func newPod(name, kind, owner string, minute int, ips ...string) *pod {
	p := &pod{}
	p.Metadata.Name, p.Metadata.Namespace, p.Metadata.UID = name, "shop", "uid-"+name
	p.Metadata.Created = time.Now().Add(-time.Hour + time.Duration(minute)*time.Minute).UTC().Truncate(time.Second)
	if kind == "ReplicaSet" {
		p.Metadata.Labels = map[string]string{"pod-template-hash": owner[strings.LastIndex(owner, "-")+1:]}
	}
	p.Metadata.Owners = []podOwner{{kind, owner, "uid-" + owner, true}}
	p.Status = podStatus{Phase: "Running", Start: p.Metadata.Created}
	for _, ip := range ips {
		p.Status.IP = ips[0]
		p.Status.IPs = append(p.Status.IPs, podIP{ip})
	}
	return p
}

// kubernetesAPI is as much of Kubernetes' API as the collector may use by examples/kubernetes/collector-access.yaml: it lists and watches pods
// of all namespaces, by their fields. https://kubernetes.io/docs/reference/using-api/api-concepts/ has the rules.
type kubernetesAPI struct {
	mu      sync.Mutex
	pods    map[string]*pod // by UID
	changes []podChange     // the version of a cluster is how many there were
	changed chan struct{}   // closed at the next change
	watched bool            // somebody knows all pods
	refused []string
}

type podChange struct{ before, after *pod }

// startKubernetesAPI returns the address where it serves.
func startKubernetesAPI(t *testing.T, ns *nettest.Namespace, a *kubernetesAPI) string {
	t.Helper()
	a.pods, a.changed = map[string]*pod{}, make(chan struct{})
	l := ns.Listen("127.0.0.1:0")
	server := &http.Server{Handler: a}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// set makes a pod, changes it or, with nil after it, deletes the one before it.
func (a *kubernetesAPI) set(before, after *pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	version := strconv.Itoa(len(a.changes) + 1)
	if after != nil {
		after.Metadata.ResourceVersion = version
		a.pods[after.Metadata.UID] = after
	} else {
		delete(a.pods, before.Metadata.UID)
	}
	a.changes = append(a.changes, podChange{before, after})
	close(a.changed)
	a.changed = make(chan struct{})
}

// fields are those of pods that a request may select by.
func (p *pod) fields() map[string]string {
	return map[string]string{"spec.hostNetwork": strconv.FormatBool(p.Spec.HostNetwork), "status.phase": p.Status.Phase}
}

// selects tells whether a pod has the fields of a selector.
func selects(selector string, p *pod) bool {
	if p == nil {
		return false
	}
	for term := range strings.SplitSeq(selector, ",") {
		if name, value, not := strings.Cut(term, "!="); not {
			if p.fields()[name] == value {
				return false
			}
		} else if name, value, is := strings.Cut(term, "="); is && p.fields()[name] != value {
			return false
		}
	}
	return true
}

func (a *kubernetesAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if r.URL.Path != "/api/v1/pods" || r.Method != http.MethodGet {
		a.mu.Lock()
		a.refused = append(a.refused, r.Method+" "+r.URL.Path)
		a.mu.Unlock()
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	to, selector := json.NewEncoder(w), q.Get("fieldSelector")
	now := func() (pods []*pod, version int, changes []podChange, changed chan struct{}) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, p := range a.pods {
			if selects(selector, p) {
				pods = append(pods, p)
			}
		}
		return pods, len(a.changes), a.changes, a.changed
	}
	pods, version, changes, changed := now()
	if watch, _ := strconv.ParseBool(q.Get("watch")); !watch {
		to.Encode(map[string]any{
			"kind": "PodList", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": strconv.Itoa(version)}, "items": pods,
		})
		return
	}

	event := func(kind string, p *pod, metadata any) {
		object := map[string]any{"kind": "Pod", "apiVersion": "v1", "metadata": metadata}
		if p != nil {
			object["metadata"], object["spec"], object["status"] = p.Metadata, p.Spec, p.Status
		}
		to.Encode(map[string]any{"type": kind, "object": object})
	}
	if initial, _ := strconv.ParseBool(q.Get("sendInitialEvents")); initial {
		for _, p := range pods {
			event("ADDED", p, nil)
		}
		event("BOOKMARK", nil, map[string]any{
			"resourceVersion": strconv.Itoa(version), "annotations": map[string]string{"k8s.io/initial-events-end": "true"},
		})
	} else if since, err := strconv.Atoi(q.Get("resourceVersion")); err == nil {
		version = since
	}
	for {
		for ; version < len(changes); version++ {
			c := changes[version]
			switch was, is := selects(selector, c.before), selects(selector, c.after); {
			case was && is:
				event("MODIFIED", c.after, nil)
			case is:
				event("ADDED", c.after, nil)
			case was && c.after != nil:
				event("DELETED", c.after, nil)
			case was:
				event("DELETED", c.before, nil)
			}
		}
		w.(http.Flusher).Flush()
		a.mu.Lock()
		a.watched = true
		a.mu.Unlock()
		select {
		case <-changed:
			_, _, changes, changed = now()
		case <-r.Context().Done():
			return
		}
	}
}

// TestPodsOfCollector has a collector with kubernetes.yaml say which pods addresses are of, while pods end and others get their addresses.
// The collector's page is promflow's own but for the labels of pods, so no byte is lost or counted twice.
func TestPodsOfCollector(t *testing.T) {
	t.Parallel()
	needCollector(t)
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")

	api := &kubernetesAPI{}
	address := startKubernetesAPI(t, here, api)
	web := newPod("web-5d4f-x", "ReplicaSet", "web-5d4f", 1, "10.1.0.1", "fd00::1")
	db := newPod("db-0", "StatefulSet", "db", 1, "10.1.0.2")
	job := newPod("import-x", "Job", "import", 1, "10.1.0.4")
	backup := newPod("backup-x", "Job", fmt.Sprintf("backup-%d", time.Now().Add(-time.Hour).Unix()/60), 1, "10.1.0.5")
	succeeded := newPod("succeeded-x", "Job", "succeeded", 2, "10.1.0.2") // started after the pod that has its address now
	succeeded.Status.Phase = "Succeeded"
	failed := newPod("failed-x", "Job", "failed", 2, "10.1.0.3")
	failed.Status.Phase = "Failed"
	proxy := newPod("proxy-x", "DaemonSet", "proxy", 1, "10.1.0.6")
	proxy.Spec.HostNetwork = true
	alone := newPod("alone", "", "", 1, "10.1.0.0")
	alone.Metadata.Owners = nil
	waits := newPod("waits-x", "Job", "waits", 3)
	waits.Status.Phase = "Pending"
	for _, p := range []*pod{web, db, newPod("agent-x", "DaemonSet", "agent", 1, "10.1.0.3"), job, backup, succeeded, failed, proxy, alone, waits} {
		api.set(nil, p)
	}

	startCollector(t, here, []string{
		"KUBERNETES_AUTH_TYPE=kubeConfig", "KUBECONFIG=" + write(t, "config", fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: test,
contexts: [{name: test, context: {cluster: test}}], clusters: [{name: test, cluster: {server: "http://%s"}}]}`, address)),
	}, "collector.yaml", "kubernetes.yaml")
	cmd := inside(t, here, "--metrics-address=127.0.0.1:0", "--interface=here", "--monitor-subnets=10.1.0.0/24,fd00::/64",
		"--otlp-endpoint=127.0.0.1:4317", "--otlp-interval=1s")
	cmd.Env = append(cmd.Env, "OTEL_RESOURCE_ATTRIBUTES=k8s.namespace.name=promflow,k8s.pod.name=promflow-x") // its own pod, as operators set it
	p := start(t, here, cmd).listening()

	labels := func(pod, kind, workload string) string {
		return fmt.Sprintf(`,namespace="shop",pod="%s",workload="%s",workload_type="%s"}`, pod, workload, kind)
	}
	of := map[string]string{ // by address; the rest has no pod
		"10.1.0.0": `,namespace="shop",pod="alone"}`,
		"10.1.0.1": labels("web-5d4f-x", "deployment", "web"),
		"10.1.0.2": labels("db-0", "statefulset", "db"),
		"10.1.0.3": labels("agent-x", "daemonset", "agent"),
		"10.1.0.4": labels("import-x", "job", "import"),
		"10.1.0.5": labels("backup-x", "cronjob", "backup"),
	}
	var frames [][]byte
	for i := range byte(7) {
		frames = append(frames, nettest.UDP(netip.AddrFrom4([4]byte{10, 1, 0, i}), netip.AddrFrom4([4]byte{10, 1, 0, (i + 1) % 7}), 100+int(i)))
	}
	frames = append(frames, nettest.UDP(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), 200))
	sender := nettest.NewSender(t, there, "there")

	// counted waits until promflow has counted all frames so many times, and the collector has what it has.
	counted := func(times int, gone ...string) {
		t.Helper()
		eventually(t, func() error {
			own := pushedLines(p.get("/metrics"))
			if got := sample(t, strings.Join(own, ""), `promflow_capture_packets_total{interface="here",outcome="counted"}`); got != float64(times*len(frames)) {
				return fmt.Errorf("%v packets counted", got)
			}
			for i, line := range own {
				for ip, labels := range of {
					own[i] = strings.Replace(line, `ip="`+ip+`"}`, `ip="`+ip+`"`+labels, 1)
					if own[i] != line {
						break
					}
				}
			}
			slices.Sort(own)
			page := slices.DeleteFunc(p.linesAtCollector(), func(line string) bool {
				return slices.ContainsFunc(gone, func(name string) bool { return strings.Contains(line, `pod="`+name+`"`) })
			})
			return sameLines(page, own)
		})
	}
	eventually(t, func() error {
		api.mu.Lock()
		defer api.mu.Unlock()
		if !api.watched {
			return errors.New("the collector does not know of pods")
		}
		return nil
	})
	sender.Send(frames...)
	counted(1)

	// One pod goes, one ends, and new ones get their addresses.
	api.set(web, nil)
	api.set(nil, newPod("api-7c9b-x", "ReplicaSet", "api-7c9b", 10, "10.1.0.1"))
	completed := *db
	completed.Status.Phase = "Failed"
	api.set(db, &completed)
	api.set(nil, newPod("cache-0", "StatefulSet", "cache", 10, "10.1.0.2"))
	of["10.1.0.1"] = labels("api-7c9b-x", "deployment", "api")
	of["10.1.0.2"] = labels("cache-0", "statefulset", "cache")
	counted(1, "web-5d4f-x", "db-0") // series of pods that are gone stay on the page for metric_expiration
	sender.Send(frames...)
	counted(2, "web-5d4f-x", "db-0")

	page, err := p.fetch("http://127.0.0.1:8889/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if lines := linesOf(page, "target_info{"); len(lines) != 1 || strings.Contains(lines[0], "k8s_") {
		t.Errorf("the collector says of promflow %q", lines)
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	if len(api.refused) > 0 {
		t.Errorf("the collector asked for %q", api.refused)
	}
}
