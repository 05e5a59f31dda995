//! A pod, and nodes as a kubelet reports them, as the JSON that Go writes.

use std::fmt::Write as _;

/// The number of images of a node. A kubelet reports up to 50.
const IMAGES: usize = 8;

/// Returns a pod.
pub(crate) fn pod() -> String {
    r#"{"metadata":{"name":"web-7d4b9c6f5-x2x8q","generateName":"web-7d4b9c6f5-","namespace":"shop","uid":"0a9c2f0e-8a0e-4e43-a2f5-1fdd4e4f6a77","resourceVersion":"48211","creationTimestamp":"2026-03-01T10:30:00Z","labels":{"app":"web","pod-template-hash":"7d4b9c6f5"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-7d4b9c6f5","uid":"5d0f7f0e-6f0a-4b0d-9d1e-2d1f8c1f2b77","controller":true,"blockOwnerDeletion":true}]},"spec":{"volumes":[{"name":"kube-api-access-7k2wq","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}}],"defaultMode":420}}],"containers":[{"name":"web","image":"registry.example.com/shop/web:1.27.3","ports":[{"containerPort":8080,"protocol":"TCP"}],"resources":{"limits":{"memory":"256Mi"},"requests":{"cpu":"250m","memory":"256Mi"}},"volumeMounts":[{"name":"kube-api-access-7k2wq","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"default","serviceAccount":"default","securityContext":{},"schedulerName":"default-scheduler","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority"},"status":{"phase":"Pending","qosClass":"Burstable"}}"#.to_owned()
}

/// Returns the rank of a node, from 0 to 100. One node of four has none.
pub(crate) fn rank(at: usize) -> Option<i64> {
    (at % 4 != 3).then_some((at * 37 % 101) as i64)
}

/// Returns the name of a node.
pub(crate) fn name(at: usize) -> String {
    format!("ip-10-{}-{}-{}.eu-central-1.compute.internal", at >> 16, at >> 8 & 255, at & 255)
}

/// Returns a node.
pub(crate) fn node(at: usize) -> String {
    let (name, digest) = (name(at), "9f8d7c6b5a4e3f2019f8d7c6b5a4e3f2019f8d7c6b5a4e3f2019f8d7c6b5a4e3");
    let address = format!("10.{}.{}.{}", at >> 16, at >> 8 & 255, at & 255);
    let zone = ["eu-central-1a", "eu-central-1b", "eu-central-1c"][at % 3];
    let mut text = format!(
        r#"{{"metadata":{{"name":"{name}","uid":"9d4c5c1e-8f1e-4f39-9f0a-3c1f{at:08x}","resourceVersion":"{}","creationTimestamp":"2026-01-15T08:00:00Z","labels":{{"beta.kubernetes.io/arch":"amd64","beta.kubernetes.io/os":"linux","#,
        1_000_000 + at
    );
    if let Some(rank) = rank(at) {
        let _ = write!(text, r#""example.com/rank":"{rank}","#);
    }
    let _ = write!(
        text,
        r#""kubernetes.io/arch":"amd64","kubernetes.io/hostname":"{name}","kubernetes.io/os":"linux","node.kubernetes.io/instance-type":"m5.large","topology.kubernetes.io/region":"eu-central-1","topology.kubernetes.io/zone":"{zone}"}},"annotations":{{"csi.volume.kubernetes.io/nodeid":"{{\"ebs.csi.aws.com\":\"i-0{at:016x}\"}}","node.alpha.kubernetes.io/ttl":"0","volumes.kubernetes.io/controller-managed-attach-detach":"true"}}}},"spec":{{"podCIDR":"10.244.{}.0/24","podCIDRs":["10.244.{}.0/24"],"providerID":"aws:///{zone}/i-0{at:016x}"}},"status":{{"capacity":{{"cpu":"4","ephemeral-storage":"104845292Ki","hugepages-1Gi":"0","hugepages-2Mi":"0","memory":"16093116Ki","pods":"58"}},"allocatable":{{"cpu":"3920m","ephemeral-storage":"95551679124","hugepages-1Gi":"0","hugepages-2Mi":"0","memory":"15076284Ki","pods":"58"}},"conditions":["#,
        at & 255,
        at & 255
    );
    for (kind, status, reason, message) in [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ] {
        let _ = write!(
            text,
            r#"{{"type":"{kind}","status":"{status}","lastHeartbeatTime":"2026-03-01T10:30:00Z","lastTransitionTime":"2026-01-15T08:00:30Z","reason":"{reason}","message":"{message}"}}{}"#,
            if kind == "Ready" { "" } else { "," }
        );
    }
    let _ = write!(
        text,
        r#"],"addresses":[{{"type":"InternalIP","address":"{address}"}},{{"type":"Hostname","address":"{name}"}}],"daemonEndpoints":{{"kubeletEndpoint":{{"Port":10250}}}},"nodeInfo":{{"machineID":"ec2{at:029x}","systemUUID":"ec2{at:029x}","bootID":"6f0f1b4e-4a55-4d3b-9d6a-1b2c{at:08x}","kernelVersion":"6.12.0-1015-aws","osImage":"Debian GNU/Linux 13 (trixie)","containerRuntimeVersion":"containerd://2.1.0","kubeletVersion":"v1.37.2","kubeProxyVersion":"","operatingSystem":"linux","architecture":"amd64"}},"images":["#
    );
    for image in 0..IMAGES {
        let _ = write!(
            text,
            r#"{}{{"names":["registry.example.com/shop/service-{image}@sha256:{digest}","registry.example.com/shop/service-{image}:1.{image}.{}"],"sizeBytes":{}}}"#,
            if image == 0 { "" } else { "," },
            at % 7,
            20_000_000 + 1_234_567 * image
        );
    }
    text + "]}}"
}

/// Returns `ExtenderArgs` with objects in JSON.
pub(crate) fn request<'a>(pod: &str, nodes: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut text = format!(r#"{{"Pod":{pod},"Nodes":{{"metadata":{{}},"items":["#);
    for (at, node) in nodes.enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(node);
    }
    text.push_str("]},\"NodeNames\":null}");
    text.into_bytes()
}
