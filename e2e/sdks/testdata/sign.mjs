// Signs a payload with each provider's own library and prints one delivery a line. No network is used.
import { sign as octokit } from "@octokit/webhooks-methods";
import Stripe from "stripe";
import { Webhook as Svix } from "svix";
import { Webhook as Standard } from "standardwebhooks";
import twilio from "twilio";
import * as hubspot from "@hubspot/api-client";
import jwt from "atlassian-jwt";
import { signRequest } from "@contentful/node-apps-toolkit";
import { encodeSignatureHeader } from "@sanity/webhook";

const now = Date.now();
const url = "https://hooks.example.com/webhooks/x";
const json = { "Content-Type": "application/json" };
const out = (d) => console.log(JSON.stringify({ method: "POST", url: "/webhooks/x", ...d }));

{
  const secret = "It's a Secret to Everybody";
  const body = JSON.stringify({ action: "edited", issue: { id: 1, number: 1, title: "Ü", body: "text", html_url: "https://example.com", updated_at: "2026-01-01T00:00:00Z" }, repository: { id: 2, full_name: "o/r" } });
  out({ sdk: "@octokit/webhooks-methods", preset: "github", secret, body, headers: { ...json, "X-GitHub-Event": "issues", "X-GitHub-Delivery": "d-1", "X-Hub-Signature-256": await octokit(secret, body) } });
}
{
  const secret = "whsec_test_secret";
  const body = JSON.stringify({ id: "evt_1", object: "event", type: "product.updated", created: Math.floor(now / 1000), data: { object: { id: "prod_1", object: "product", name: "Ü" } } });
  out({ sdk: "stripe", preset: "stripe", secret, body, headers: { ...json, "Stripe-Signature": Stripe.webhooks.generateTestHeaderString({ payload: body, secret }) } });
}
for (const [sdk, preset, Webhook, prefix] of [["svix", "svix", Svix, "svix"], ["standardwebhooks", "standard-webhooks", Standard, "webhook"]]) {
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const body = JSON.stringify({ type: "page.updated", timestamp: new Date(now).toISOString(), data: { id: "p1", title: "Ü" } });
  out({ sdk, preset, secret, body, headers: { ...json, [`${prefix}-id`]: "msg_1", [`${prefix}-timestamp`]: String(Math.floor(now / 1000)), [`${prefix}-signature`]: new Webhook(secret).sign("msg_1", new Date(now), body) } });
}
{
  const secret = "12345";
  const params = { MessageSid: "SM1", Body: "text & more", From: "+15005550006", To: "+15005550001" };
  out({ sdk: "twilio", preset: "twilio", secret, publicURL: url, body: new URLSearchParams(params).toString(), headers: { "Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": twilio.getExpectedTwilioSignature(secret, url, params) } });
}
{
  const clientSecret = "hubspot-client-secret";
  const body = JSON.stringify([{ eventId: 1, subscriptionId: 2, occurredAt: now, subscriptionType: "contact.propertyChange", objectId: 3 }]);
  const timestamp = String(now);
  const signature = hubspot.Signature.getSignature("POST", "v3", { clientSecret, requestBody: body, url, timestamp, signature: "" });
  out({ sdk: "@hubspot/api-client", preset: "hubspot", secret: clientSecret, publicURL: url, body, headers: { ...json, "X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": timestamp } });
}
{
  const secret = "connect-shared-secret";
  const body = JSON.stringify({ timestamp: now, webhookEvent: "jira:issue_updated", issue: { id: "10001", key: "A-1", fields: { summary: "Ü", project: { id: "1" } } } });
  const target = "/webhooks/x?user_id=1&event=b%20c";
  const iat = Math.floor(now / 1000);
  const token = jwt.encodeSymmetric({ iss: "client", iat, exp: iat + 180, qsh: jwt.createQueryStringHash(jwt.fromMethodAndUrl("POST", target)) }, secret);
  out({ sdk: "atlassian-jwt", preset: "jira-connect", secret, url: target, body, bodyNotSigned: true, headers: { ...json, Authorization: `JWT ${token}` } });
}
{
  const secret = "s".repeat(64);
  const body = JSON.stringify({ sys: { id: "e1", revision: 2, updatedAt: new Date(now).toISOString(), space: { sys: { id: "s" } }, environment: { sys: { id: "master" } } } });
  const headers = { ...json, "X-Contentful-Topic": "ContentManagement.Entry.publish" };
  const made = signRequest(secret, { method: "POST", path: "/webhooks/x", headers, body }, now);
  out({ sdk: "@contentful/node-apps-toolkit", preset: "contentful", secret, body, headers: { ...headers, ...made } });
}
{
  const secret = "sanity-secret";
  const body = JSON.stringify({ _id: "d1", _rev: "r1", title: "Ü" });
  out({ sdk: "@sanity/webhook", preset: "sanity", secret, body, headers: { ...json, "sanity-operation": "update", "sanity-webhook-signature": await encodeSignatureHeader(body, now, secret) } });
}
