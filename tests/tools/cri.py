#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a kubelet asks of a container runtime, for tests.

cri.py -a SOCKET COMMAND [ARGUMENTS]
  pull REF        rmi REF       images        fsinfo
  pod NAME        rmpod POD     run POD NAME REF COMMAND...
  exec CONTAINER COMMAND...     rm CONTAINER  stats CONTAINER

Pods are on the host's network. Prints ids, or JSON; exec prints what the
command does and exits as it does. A call that fails: exit 1, and "CODE:
message" on stderr.
"""
import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile

import grpc

RUNTIME = "/runtime.v1.RuntimeService/"
IMAGE = "/runtime.v1.ImageService/"
NODE = 2


def stubs():
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(["protoc", "-I" + here, "--python_out=" + d,
                        "cri.proto"], check=True)
        sys.path.insert(0, d)
        try:
            return importlib.import_module("cri_pb2")
        finally:
            sys.path.remove(d)


class Client:
    def __init__(self, address):
        self.pb = stubs()
        self.channel = grpc.insecure_channel("unix:" + address)

    def call(self, method, req, reply=None, timeout=120):
        reply = reply or self.pb.Empty
        fn = self.channel.unary_unary(
            method, request_serializer=type(req).SerializeToString,
            response_deserializer=reply.FromString)
        return fn(req, timeout=timeout)

    def image(self, ref):
        return self.pb.ImageRequest(image=self.pb.ImageSpec(image=ref))

    def pod_config(self, name):
        c = self.pb.PodSandboxConfig()
        c.metadata.name = c.metadata.uid = name
        c.metadata.namespace = "lab"
        c.linux.security_context.namespace_options.network = NODE
        return c

    def pull(self, ref):
        return self.call(IMAGE + "PullImage", self.image(ref),
                         self.pb.PullImageResponse).image_ref

    def rmi(self, ref):
        self.call(IMAGE + "RemoveImage", self.image(ref))

    def images(self):
        r = self.call(IMAGE + "ListImages", self.pb.Empty(),
                      self.pb.ListImagesResponse)
        return json.dumps([{"id": i.id, "tags": list(i.repo_tags),
                            "size": i.size} for i in r.images])

    def usage(self, u):
        return {"mountpoint": u.fs_id.mountpoint, "bytes": u.used_bytes.value,
                "inodes": u.inodes_used.value}

    def fsinfo(self):
        r = self.call(IMAGE + "ImageFsInfo", self.pb.Empty(),
                      self.pb.ImageFsInfoResponse)
        return json.dumps(self.usage(r.image_filesystems[0]))

    def pod(self, name):
        return self.call(
            RUNTIME + "RunPodSandbox",
            self.pb.RunPodSandboxRequest(config=self.pod_config(name)),
            self.pb.RunPodSandboxResponse).pod_sandbox_id

    def rmpod(self, pod):
        for m in ("StopPodSandbox", "RemovePodSandbox"):
            self.call(RUNTIME + m,
                      self.pb.PodSandboxRequest(pod_sandbox_id=pod))

    def run(self, pod, name, ref, *command):
        req = self.pb.CreateContainerRequest(
            pod_sandbox_id=pod, sandbox_config=self.pod_config(name))
        req.config.metadata.name = name
        req.config.image.image = ref
        req.config.command.extend(command)
        req.config.linux.security_context.namespace_options.network = NODE
        c = self.call(RUNTIME + "CreateContainer", req,
                      self.pb.CreateContainerResponse).container_id
        self.call(RUNTIME + "StartContainer",
                  self.pb.ContainerRequest(container_id=c))
        return c

    def exec(self, container, *command):
        r = self.call(RUNTIME + "ExecSync",
                      self.pb.ExecSyncRequest(container_id=container,
                                              cmd=command, timeout=100),
                      self.pb.ExecSyncResponse)
        sys.stdout.buffer.write(r.stdout)
        sys.stderr.buffer.write(r.stderr)
        sys.exit(r.exit_code)

    def rm(self, container):
        for m in ("StopContainer", "RemoveContainer"):
            self.call(RUNTIME + m,
                      self.pb.ContainerRequest(container_id=container))

    def stats(self, container):
        r = self.call(RUNTIME + "ContainerStats",
                      self.pb.ContainerRequest(container_id=container),
                      self.pb.ContainerStatsResponse)
        return json.dumps(self.usage(r.stats.writable_layer))


COMMANDS = ("pull", "rmi", "images", "fsinfo", "pod", "rmpod", "run", "exec",
            "rm", "stats")


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("-a", "--address", required=True)
    p.add_argument("command", choices=COMMANDS)
    p.add_argument("args", nargs=argparse.REMAINDER)
    a = p.parse_args()
    try:
        out = getattr(Client(a.address), a.command)(*a.args)
    except grpc.RpcError as e:
        print("%s: %s" % (e.code().name, e.details()), file=sys.stderr)
        sys.exit(1)
    if out is not None:
        print(out)


if __name__ == "__main__":
    main()
