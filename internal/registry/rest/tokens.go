package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/internal/registry/access"
)

// Access knows the tokens: [*access.Tokens].
type Access interface {
	Check(token, from string) (access.Grant, error)
	Create(ctx context.Context, s access.Spec) (access.Token, string, error)
	List() []access.Token
	Revoke(ctx context.Context, id string) error
}

// tokenSpec is the body of a POST.
type tokenSpec struct {
	Name       string   `json:"name" minLength:"1" maxLength:"63" doc:"shown in the audit log and as updatedBy of rules"`
	Role       string   `json:"role" enum:"reader,operator,admin,workload"`
	Namespaces []string `json:"namespaces,omitempty" doc:"where it counts; everywhere if not given"`
	Services   []string `json:"services,omitempty" doc:"of a workload: the services it may register, such as product or product.shop; all of its namespaces if not given"`
	TTL        string   `json:"ttl,omitempty" example:"720h" doc:"after which it expires, from 1s to 87600h; never if not given"`
}

// tokenInfo is a token without its text.
type tokenInfo struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Role       string    `json:"role" enum:"reader,operator,admin,workload"`
	Namespaces []string  `json:"namespaces,omitempty" doc:"where it counts; absent: everywhere"`
	Services   []string  `json:"services,omitempty" doc:"what a workload may register; absent: all of its namespaces"`
	CreatedAt  time.Time `json:"createdAt"`
	CreatedBy  string    `json:"createdBy"`
	ExpiresAt  time.Time `json:"expiresAt,omitzero" doc:"absent: never"`
}

func tokenOf(t access.Token) tokenInfo {
	return tokenInfo{t.ID, t.Name, string(t.Role), t.Namespaces, t.Services, t.CreatedAt, t.CreatedBy, t.ExpiresAt}
}

// newToken is a token with its text.
type newToken struct {
	Token string `json:"token" doc:"the text; it is shown this once and not stored"`
	tokenInfo
}

type listTokens struct {
	Page
}

type createToken struct {
	Payload
}

type tokenMade struct {
	CacheControl string `header:"Cache-Control"`
	Body         newToken
}

// OneToken names a token in a path.
type OneToken struct {
	ID string `path:"id" maxLength:"64"`
}

func (a *API) addTokens() {
	register(a, needs(access.Admin, everywhere), operation("list-tokens", http.MethodGet, "/v1/tokens", "List the tokens that were made and have not expired"), a.listTokens)
	post := operation("create-token", http.MethodPost, "/v1/tokens", "Make a token", writeErrors()...)
	post.DefaultStatus = http.StatusCreated
	post.RequestBody = bodyOf[tokenSpec](a.huma, "application/json")
	register(a, needs(access.Admin, everywhere), post, a.createToken)
	register(a, needs(access.Admin, everywhere), operation("revoke-token", http.MethodDelete, "/v1/tokens/{id}",
		"Take a token back; what it opened ends within 5 s", http.StatusNotFound, http.StatusInsufficientStorage), a.revokeToken)
}

func (a *API) listTokens(_ context.Context, in *listTokens) (*listed[tokenInfo], error) {
	all := convert(a.Access.List(), tokenOf)
	slices.SortFunc(all, func(x, y tokenInfo) int { return strings.Compare(tokenKey(x), tokenKey(y)) })
	return undated(paged(in.Page, all, tokenKey, a.Catalog.Revision())), nil
}

func tokenKey(t tokenInfo) string { return t.Name + "/" + t.ID }

// undated gives a list whose content changes without a revision an ETag of its own.
func undated[T any](l *listed[T]) *listed[T] {
	l.ETag = digest(l.Body.Items)
	return l
}

func (a *API) createToken(ctx context.Context, in *createToken) (*tokenMade, error) {
	var want tokenSpec
	if err := in.decode(&want); err != nil {
		return nil, err
	}
	spec := access.Spec{Name: want.Name, Role: access.Role(want.Role), Namespaces: want.Namespaces, Services: want.Services}
	if want.TTL != "" {
		var err error
		if spec.TTL, err = duration("ttl", want.TTL, time.Second, maxTokenTTL); err != nil {
			return nil, err
		}
	}
	t, text, err := a.Access.Create(ctx, spec)
	if err != nil {
		return nil, a.refuse(err)
	}
	return &tokenMade{CacheControl: "no-store", Body: newToken{text, tokenOf(t)}}, nil
}

// maxTokenTTL is ten years.
const maxTokenTTL = 87600 * time.Hour

func (a *API) revokeToken(ctx context.Context, in *OneToken) (*nothing, error) {
	if err := a.Access.Revoke(ctx, in.ID); err != nil {
		return nil, a.refuse(err)
	}
	return nil, nil
}
