// An OpenID Connect provider for tests: whoever gives a name of USERS is logged in, with any password.
//   node server.js PORT REDIRECT_URI [ISSUER]
// With an issuer it listens on every address, as a pod does.
import { Provider } from 'oidc-provider';

const [port, redirectUri, issuer] = process.argv.slice(2);
const USERS = {
  vera: ['viewers'],
  olga: ['staff', 'operators'],
  anna: ['viewers', 'admins'],
  nobody: ['staff'],
};

const provider = new Provider(issuer ?? `http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'phaseflow',
    client_secret: 'client-secret',
    redirect_uris: [redirectUri],
  }],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['groups'] },
  conformIdTokenClaims: false,
  cookies: { keys: ['test'] },
  findAccount: (_, id) => USERS[id] && {
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true, groups: USERS[id] }),
  },
  // Nobody is asked for consent.
  loadExistingGrant: async (context) => {
    const { client, session } = context.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid email profile');
    await grant.save();
    return grant;
  },
});
provider.listen(Number(port), issuer ? '0.0.0.0' : '127.0.0.1');
