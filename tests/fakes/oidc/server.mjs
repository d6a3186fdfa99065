// A certified authorization server over https on loopback, with its own consent pages. Settings come on standard input
// as JSON: issuer, port, cert, key, clients. Prints one line when it listens, and one for each call of an endpoint.
import { readFileSync } from "node:fs";
import https from "node:https";
import Provider from "oidc-provider";

const settings = JSON.parse(readFileSync(0, "utf8"));
const provider = new Provider(settings.issuer, {
  clients: settings.clients,
  scopes: ["openid", "offline_access", "email", "smtp.send"],
  claims: { openid: ["sub"], email: ["email"] },
  // The mailbox in the ID token: who consented is read from there.
  conformIdTokenClaims: false,
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: id }) }),
  features: {
    devInteractions: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: false },
  },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 3600, IdToken: 600, Interaction: 600, RefreshToken: 3600, Session: 600 },
  cookies: { keys: ["only for tests"] },
});
provider.use(async (ctx, next) => {
  await next();
  const auth = ctx.get("authorization") ? "basic" : "body";
  console.log(JSON.stringify({ path: ctx.path, method: ctx.method, status: ctx.status, auth }));
});
https
  .createServer({ cert: readFileSync(settings.cert), key: readFileSync(settings.key) }, provider.callback())
  .listen(settings.port, "127.0.0.1", () => console.log(JSON.stringify({ ready: true })));
