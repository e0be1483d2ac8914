//! Who may do what.

use async_trait::async_trait;
use http::request::Parts;
use weir_core::object::Kind;

use crate::refusal::Refusal;

/// What is done. The words are those of Kubernetes roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// See.
    Get,
    /// Publish again, and end that.
    Redrive,
    /// Purge.
    Delete,
    /// Import.
    Create,
}

impl Verb {
    /// The verb as roles have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Redrive => "redrive",
            Self::Delete => "delete",
            Self::Create => "create",
        }
    }

    /// Whether it leaves everything as it is.
    pub fn only_looks(self) -> bool {
        self == Self::Get
    }
}

/// What is asked for, as roles name it: `get` on `webhooks/deadletters` called `stripe` in `shop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// What is done.
    pub verb: Verb,
    /// To objects of this kind.
    pub kind: Kind,
    /// `deadletters`, `messages`, or nothing for the object itself.
    pub subresource: Option<&'static str>,
    /// In this namespace.
    pub namespace: Option<String>,
    /// To this object; to all of them without it.
    pub name: Option<String>,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Their name, where they have one.
    pub name: Option<String>,
}

/// Decides who may do what.
#[async_trait]
pub trait Guard: Send + Sync + 'static {
    /// Lets a request through, or says why not. Asked before anything is looked up, so that nobody
    /// learns what is there from an error. Without an access only who asks is checked: the request
    /// makes no sense, and will be told so.
    async fn admit(&self, head: &Parts, access: Option<&Access>) -> Result<Caller, Refusal>;
}
