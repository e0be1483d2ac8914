//! Scalable Webhook: an HTTP endpoint for strangers, a queue, and its handler.

use kube::Resource as _;
use serde_json::{Map, Value};
use weir_core::config::{
    HmacConfig, HmacEncoding, HmacPayload, IntakeConfig, SignatureScheme, VerifyConfig,
};
use weir_crds::Webhook;
use weir_crds::conditions::{Condition, Reason};
use weir_crds::shared::Consumes as _;
use weir_crds::webhook::{Encoding, Hmac, Method, Payload, Scheme, Verify};

use super::{Ending, Kind, Needs, Summary, consumer_status};
use crate::delivery::{self, Resolved};
use crate::done::Done;
use crate::identity::Identity;
use crate::plan::{Plan, Rejected};
use crate::runtime::Member;
use crate::world::{Place, World};

impl Kind for Webhook {
    type Resolved = Resolved;

    const NAME: &'static str = "Webhook";

    fn needs(&self, place: &Place) -> Needs {
        delivery::needs(&identity(self), &self.spec.delivery(), place)
    }

    fn resolve(&self, world: &World) -> Result<Resolved, Rejected> {
        if self.spec.route.is_some() && matches!(world.place, Place::Cluster(_)) {
            return Err(Rejected::new(
                Reason::Unsupported,
                "spec.route: this version of Weir makes no routes; remove the field and point a route of your own at the Service weir-runtime, path as in status.url",
            ));
        }
        let identity = identity(self);
        let intake = IntakeConfig {
            methods: self
                .spec
                .methods
                .iter()
                .map(|method| method_name(*method))
                .collect(),
            max_body_bytes: u64::from(self.spec.max_body_bytes),
            status: self.spec.respond.status,
            verify: verify(&self.spec.verify, world.keys_dir(&identity.key))?,
            deduplicate: self
                .spec
                .deduplicate
                .as_ref()
                .map(delivery::deduplicate_all),
            group: None,
            delay_seconds: 0,
            publish_api: false,
        };
        delivery::resolve(&identity, &self.spec.delivery(), intake, u32::MAX, world)
    }

    fn plan(resolved: &Resolved) -> Plan {
        delivery::plan(resolved)
    }

    fn member(&self, world: &World) -> Option<Member> {
        Some(delivery::member(
            &identity(self),
            self.meta(),
            self.spec.bus.as_deref(),
            world,
        ))
    }

    fn summary(resolved: &Resolved) -> Summary<'_> {
        consumer_status::summary(resolved)
    }

    fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map_or(&[], |status| &status.conditions)
    }

    fn fields(&self, outcome: Option<(&Resolved, &Done)>) -> Map<String, Value> {
        consumer_status::fields(self.status.as_ref(), outcome.map(|(resolved, _)| resolved))
    }

    fn ending(&self) -> Option<Ending> {
        Some(delivery::ending(&identity(self), &self.spec.delivery()))
    }
}

fn identity(webhook: &Webhook) -> Identity {
    let keys_secret = webhook
        .spec
        .verify
        .secret_ref
        .as_ref()
        .map(|secret| secret.name.clone());
    Identity {
        keys_secret,
        ..Identity::of(weir_core::object::Kind::Webhook, webhook)
    }
}

fn method_name(method: Method) -> String {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    }
    .to_owned()
}

fn verify(spec: &Verify, keys_dir: String) -> Result<Option<VerifyConfig>, Rejected> {
    let scheme = match spec.scheme {
        Scheme::None => return Ok(None),
        Scheme::StandardWebhooks => SignatureScheme::StandardWebhooks,
        Scheme::GitHub => SignatureScheme::GitHub,
        Scheme::Stripe => SignatureScheme::Stripe,
        Scheme::Slack => SignatureScheme::Slack,
        Scheme::Shopify => SignatureScheme::Shopify,
        Scheme::HmacSha256 => SignatureScheme::HmacSha256,
    };
    // The schema says so too. Without this, an API server that was told not to validate would give
    // an endpoint that looks protected.
    if spec.secret_ref.is_none() {
        return Err(Rejected::new(
            Reason::InvalidSpec,
            "spec.verify.secretRef must be set; name the Secret that holds the signing secret, or write scheme: None",
        ));
    }
    let hmac = match (scheme, &spec.hmac) {
        (SignatureScheme::HmacSha256, Some(hmac)) => Some(hmac_config(hmac)?),
        (SignatureScheme::HmacSha256, None) => {
            return Err(Rejected::new(
                Reason::InvalidSpec,
                "spec.verify.hmac must be set with scheme HmacSha256",
            ));
        }
        _ => None,
    };
    Ok(Some(VerifyConfig {
        scheme,
        keys_dir,
        tolerance_seconds: spec.tolerance_seconds,
        hmac,
    }))
}

fn hmac_config(hmac: &Hmac) -> Result<HmacConfig, Rejected> {
    Ok(HmacConfig {
        header: hmac.header.to_ascii_lowercase(),
        encoding: match hmac.encoding {
            Encoding::Hex => HmacEncoding::Hex,
            Encoding::Base64 => HmacEncoding::Base64,
        },
        prefix: hmac.prefix.clone(),
        payload: match hmac.payload {
            Payload::Body => HmacPayload::Body,
            Payload::TimestampDotBody => HmacPayload::TimestampDotBody {
                header: hmac
                    .timestamp_header
                    .as_ref()
                    .ok_or_else(|| {
                        Rejected::new(
                            Reason::InvalidSpec,
                            "spec.verify.hmac.timestampHeader: write the name of the header that carries the time",
                        )
                    })?
                    .to_ascii_lowercase(),
            },
        },
    })
}
