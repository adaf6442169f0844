// SPDX-License-Identifier: Apache-2.0

// stargz-snapshotter as a program, because Debian has it as a library only, with
// its own defaults: peer ROOT SOCKET
package main

import (
	"context"
	"log"
	"net"
	"os"

	api "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/containerd/reference"
	"github.com/containerd/containerd/remotes/docker"
	"github.com/containerd/stargz-snapshotter/fs"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/fs/layer"
	"github.com/containerd/stargz-snapshotter/fs/source"
	"github.com/containerd/stargz-snapshotter/snapshot"
	rhttp "github.com/hashicorp/go-retryablehttp"
	"google.golang.org/grpc"
)

func hosts(spec reference.Spec) ([]docker.RegistryHost, error) {
	client := rhttp.NewClient()
	client.Logger = nil
	return docker.ConfigureDefaultRegistries(
		docker.WithPlainHTTP(docker.MatchLocalhost),
		docker.WithClient(client.StandardClient()))(spec.Hostname())
}

func main() {
	root, socket := os.Args[1], os.Args[2]
	layers, err := fs.NewFilesystem(root+"/stargz", config.Config{},
		fs.WithGetSources(source.FromDefaultLabels(hosts)),
		fs.WithOverlayOpaqueType(layer.OverlayOpaqueTrusted))
	if err != nil {
		log.Fatal(err)
	}
	sn, err := snapshot.NewSnapshotter(context.Background(),
		root+"/snapshotter", layers, snapshot.AsynchronousRemove)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	rpc := grpc.NewServer()
	api.RegisterSnapshotsServer(rpc, snapshotservice.FromSnapshotter(sn))
	log.Fatal(rpc.Serve(l))
}
