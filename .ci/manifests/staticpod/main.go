// Command staticpod prints the pod of the one DaemonSet that a kustomization builds, as a kubelet without an API server takes it.
//
//	go run ./staticpod ../../examples/kubernetes
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "staticpod:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("usage: staticpod FOLDER")
	}
	pod, err := podOf(arguments[0])
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(pod)
}

// podOf returns what the DaemonSet's controller would make, but for the node that it names.
func podOf(folder string) (*core.Pod, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return nil, err
	}
	var pods []*core.Pod
	for _, resource := range resources.Resources() {
		if resource.GetKind() != "DaemonSet" {
			continue
		}
		encoded, err := resource.MarshalJSON()
		if err != nil {
			return nil, err
		}
		var daemons apps.DaemonSet
		if err := json.Unmarshal(encoded, &daemons); err != nil {
			return nil, err
		}
		pod := &core.Pod{
			TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: daemons.Spec.Template.ObjectMeta,
			Spec:       daemons.Spec.Template.Spec,
		}
		pod.Name, pod.Namespace = daemons.Name, daemons.Namespace
		pods = append(pods, pod)
	}
	if len(pods) != 1 {
		return nil, fmt.Errorf("%s has %d DaemonSets", folder, len(pods))
	}
	return pods[0], nil
}
