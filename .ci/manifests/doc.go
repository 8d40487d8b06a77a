// Package manifests has the files of examples/ that others read be read by what they are for: Kubernetes' types and kustomize, Compose's
// loader, and the YAML of Grafana's provisioning. Whatever is misspelt there is an error.
//
// It is a module of its own, so that promflow does not depend on those.
package manifests
