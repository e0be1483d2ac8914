//! Who an object is: what children, topology and configuration carry of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt as _};
use weir_core::object::{Kind, ObjectKey};

/// Key, UID and generation of an object, with the reference that makes it an owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Kind, namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Makes the object the controller of its children.
    pub owner: OwnerReference,
    /// The Secret with its signing keys.
    pub keys_secret: Option<String>,
}

impl Identity {
    /// The identity of an object of one of the kinds that take messages. Objects that never saw an
    /// API server get a made-up UID from their names, so that nothing depends on who plans.
    pub fn of<K: Resource<DynamicType = ()>>(kind: Kind, object: &K) -> Self {
        let key = ObjectKey::new(
            kind,
            object.namespace().unwrap_or_else(|| "default".to_owned()),
            object.name_any(),
        );
        let uid = object.uid().unwrap_or_else(|| format!("local-{key}"));
        let owner = OwnerReference {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            name: key.name.clone(),
            uid: uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        Self {
            key,
            uid,
            generation: object.meta().generation.unwrap_or(0),
            keys_secret: None,
            owner,
        }
    }
}
